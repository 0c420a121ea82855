/** One change of a fleet does not wait for what an earlier one still waits for: open WebSockets, starts that fail. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, onTestFinished, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { inProcess, type NodeHandler } from '../../providers/testing/index.ts'
import { readFleetFileOrExit } from '../../src/cli/serve/fleet-file.ts'
import { openServeLog } from '../../src/cli/serve/log.ts'
import { Reloader } from '../../src/cli/serve/reload.ts'
import { applyConfig, type ToServiceOptions } from '../../src/config/apply.ts'
import { type Config, loadConfig } from '../../src/config/config.ts'
import { createGateway } from '../../src/gateway/index.ts'
import { Session } from '../../src/index.ts'
import { createFolder } from '../cli/help.ts'
import { NEVER, rejectionOf, waitUntil } from '../help.ts'

const sessions: Session[] = []
afterEach(async () => {
  await Promise.all(sessions.splice(0).map((session) => session.close({ force: true })))
})

const config = (services: string): Config =>
  loadConfig(
    { text: `services:\n${services}\nsession: { provider: near }` },
    {},
    {
      providers: { near: {}, broken: {} },
    },
  )

const sockets = new WebSocketServer({ noServer: true })

/** Each version of a service answers with its concurrency; drains never end by themselves. */
function world() {
  const session = new Session({ provider: inProcess(() => new Response('')), tickInterval: 20 })
  sessions.push(session)
  const broken = inProcess(() => new Response(''), { style: 'web', failStarts: 1_000_000 })
  const toService: ToServiceOptions = ({ options, provider }) => {
    const answer: NodeHandler = (_req, res) => res.end(`v${options.concurrency ?? 1}`)
    const upgrade = (...[req, socket, head]: Parameters<WebSocketServer['handleUpgrade']>) =>
      sockets.handleUpgrade(req, socket, head, () => undefined)
    const near = inProcess(answer, {
      style: 'node',
      upgrade: (req, socket, head) => upgrade(req, socket as never, head, () => undefined),
    })
    const limits = { drainTimeout: NEVER, startTimeout: NEVER }
    return { ...options, ...limits, provider: provider === 'broken' ? broken : near }
  }
  const ask = async (url: string): Promise<string> => (await session.client().get(url)).text()
  return { session, toService, ask }
}

/** A WebSocket through a gateway, open to the end of the test. */
async function openSocket(session: Session, name: string): Promise<WebSocket> {
  const gateway = await createGateway(session, { listen: '127.0.0.1:0', drainTimeout: 0 })
  onTestFinished(() => gateway.close())
  const socket = new WebSocket(`${gateway.url.replace('http', 'ws')}/${name}/`)
  socket.on('error', () => undefined)
  onTestFinished(() => socket.terminate())
  await waitUntil(() => socket.readyState === WebSocket.OPEN)
  return socket
}

const FIRST = '  http://a: { concurrency: 2 }'

describe('while a WebSocket is open on the service as it was, the next file is in effect at once, after one that', () => {
  test.each([
    ['changed the service', '  http://a: { concurrency: 3 }'],
    ['took the service away', '  http://b: {}'],
    ['changed it and others', '  http://a: { concurrency: 3 }\n  http://b: { concurrency: 5 }'],
    ['gave it no instance', '  http://a: { concurrency: 3, size: 0 }'],
  ])('%s', async (_what, second) => {
    const { session, toService, ask } = world()
    const first = config(FIRST)
    await applyConfig(session, undefined, first, toService)
    const socket = await openSocket(session, 'a')
    const { running, drained } = await applyConfig(session, first, config(second), toService)
    let isDrained = false
    void drained.then(() => {
      isDrained = true
    })
    const third = config('  http://a: { concurrency: 4 }\n  http://c: { concurrency: 6 }')
    const applied = await applyConfig(session, running, third, toService)
    expect(applied.failed).toEqual([])
    expect([await ask('http://a'), await ask('http://c')]).toEqual(['v4', 'v6'])
    expect([socket.readyState, isDrained]).toEqual([WebSocket.OPEN, false])
    socket.close()
    await drained
  })
})

test('a file that is wrong only in what it starts does not hold the next one up', async () => {
  const { session, toService, ask } = world()
  const first = config(FIRST)
  await applyConfig(session, undefined, first, toService)
  const broken = config(
    '  http://a: { concurrency: 3, provider: broken }\n  http://b: { concurrency: 5 }',
  )
  const second = applyConfig(session, first, broken, toService)
  await waitUntil(async () => (await ask('http://b')) === 'v5')
  const third = config('  http://a: { concurrency: 4 }')
  const { succeeded: done, running } = await applyConfig(session, first, third, toService)
  expect(done).toEqual(
    expect.arrayContaining([
      { url: 'http://a', change: 'changed' },
      { url: 'http://b', change: 'removed' },
    ]),
  )
  expect([await ask('http://a'), running]).toEqual(['v4', third])
  // The change that was passed over is neither done nor failed.
  expect(await second).toMatchObject({
    succeeded: [{ url: 'http://b', change: 'added' }],
    failed: [],
    running: third,
  })
  expect(session.clusters.map(({ url }) => url)).toEqual(['http://a'])
})

test('what failed in an apply is tried again by the next one, though that began before it had failed', async () => {
  const { session, toService, ask } = world()
  const limited: ToServiceOptions = (service, all) => ({
    ...toService(service, all),
    startTimeout: 100,
  })
  const first = config(FIRST)
  await applyConfig(session, undefined, first, toService)
  const broken = config('  http://a: { concurrency: 3, provider: broken }')
  const second = applyConfig(session, first, broken, limited)
  const both = config(
    '  http://a: { concurrency: 3, provider: broken }\n  http://b: { concurrency: 5 }',
  )
  const third = await applyConfig(session, first, both, toService)
  expect(third.succeeded).toEqual([{ url: 'http://b', change: 'added' }])
  const { failed, running } = await second
  expect(failed).toMatchObject([{ url: 'http://a', change: 'changed' }])
  expect(running.services.map(({ url }) => url).sort()).toEqual(['http://a', 'http://b'])
  const fixed = await applyConfig(
    session,
    running,
    config('  http://a: { concurrency: 3 }\n  http://b: { concurrency: 5 }'),
    toService,
  )
  expect(fixed.succeeded).toEqual([{ url: 'http://a', change: 'changed' }])
  expect(await ask('http://a')).toBe('v3')
})

test('a balancer of a changed service decides before what it was has drained', async () => {
  const { session, toService } = world()
  const first = config('  http://a: { concurrency: 2, size: 1 }')
  await applyConfig(session, undefined, first, toService)
  await openSocket(session, 'a')
  const second = config('  http://a: { concurrency: 3, size: 4..8 }')
  await applyConfig(session, first, second, toService)
  await waitUntil(() => session.cluster('http://a').size === 4)
})

describe('session.update', () => {
  const version = (concurrency: number, more: object = {}) => ({
    url: 'http://a',
    concurrency,
    startTimeout: NEVER,
    drainTimeout: NEVER,
    provider: inProcess((_req, res) => res.end(`v${concurrency}`), { style: 'node', ...more }),
  })

  test('a newer one takes the place of one that waits for its first instance', async () => {
    const { session, ask } = world()
    session.startup(version(1))
    const waiting = rejectionOf(session.update(version(2, { failStarts: 1_000_000 })))
    await session.update(version(3))
    expect(await waiting).toMatchObject({
      code: 'MANYHOST_ABORTED',
      message: 'http://a: a newer update of the service took its place',
    })
    expect(await ask('http://a')).toBe('v3')
    expect(session.clusters).toHaveLength(1)
  })

  test('ends with `remove`, and leaves no instance behind', async () => {
    const { session } = world()
    session.startup(version(1))
    const next = version(2, { startDelay: 30 })
    const updated = rejectionOf(session.update(next))
    await session.remove('http://a')
    expect(await updated).toMatchObject({ code: 'MANYHOST_ABORTED' })
    expect([session.clusters, next.provider.instances]).toEqual([[], []])
  })

  test('a size that is set meanwhile is the one that holds', async () => {
    const { session } = world()
    session.startup({ ...version(1), initSize: 2 })
    const updated = session.update({ ...version(2, { startDelay: 30 }), initSize: 2 })
    session.setSize('http://a', 5)
    await updated
    expect(session.cluster('http://a')).toMatchObject({ size: 5, concurrency: 2 })
  })
})

test('Reloader: a file that is saved while a WebSocket holds the one before up is applied at once', async () => {
  const { session, toService, ask } = world()
  const file = join(createFolder(), 'fleet.yaml')
  const save = (services: string): void => writeFileSync(file, `services:\n${services}\n`)
  const service = (name: string, concurrency: number): string =>
    `  http://${name}: { command: [x], concurrency: ${concurrency} }\n`
  save(service('a', 2))
  const fleet = readFleetFileOrExit(file, {})
  const bare: ToServiceOptions = (one, all) => {
    const { command: _, ...options } = toService(one, all)
    return options
  }
  const { running } = await applyConfig(session, undefined, fleet.config, bare)
  const socket = await openSocket(session, 'a')
  const log = openServeLog({ format: 'quiet', level: 'error' })
  const reloader = new Reloader(
    { file, env: {}, session, gateways: [], toService: bare, log },
    fleet,
    running,
  )
  onTestFinished(() => reloader.close())
  save(service('a', 3))
  await reloader.reload()
  save(service('a', 4) + service('b', 5))
  await reloader.reload()
  expect([await ask('http://a'), await ask('http://b')]).toEqual(['v4', 'v5'])
  save(service('b', 6))
  const [one, other] = [reloader.reload(), reloader.reload()]
  await Promise.all([one, other])
  expect(session.clusters.map(({ url, concurrency }) => [url, concurrency])).toEqual([
    ['http://b', 6],
  ])
  expect(socket.readyState).toBe(WebSocket.OPEN)
})

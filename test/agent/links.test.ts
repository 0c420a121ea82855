/** The link of an agent: cut, forged, replayed, flooded, encrypted; and what the hub makes of each. */
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Registry } from 'prom-client'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { type AgentsProvider, agents, runAgent } from '../../providers/agent/index.ts'
import { processes } from '../../providers/process/index.ts'
import type { Running, StartupContext } from '../../src/provider.ts'
import { code, dial, type Ends } from '../../src/wire/index.ts'
import { certificate } from '../fakes/certificate.ts'
import { failure, pidsOf, service, thrown, until } from '../help.ts'
import { get, specOf } from '../providers/process-help.ts'
import { agentHere, come, type Here, hub, KEY } from './help.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

function opened(options: Parameters<typeof hub>[0] = {}): AgentsProvider {
  const provider = hub(options)
  cleanups.push(() => provider.close?.())
  return provider
}

function here(address: string, options: Parameters<typeof agentHere>[1] = {}): Here {
  const agent = agentHere(address, options)
  cleanups.push(() => agent.end())
  return agent
}

const unending = new AbortController().signal

async function serving(provider: AgentsProvider, part = {}): Promise<Running & { id: string }> {
  const spec = specOf({ command: service, ...part })
  const running = await provider.start(spec, { signal: unending })
  await until(
    () =>
      running.accepts?.(unending).then(
        () => true,
        () => false,
      ) ?? true,
  )
  return Object.assign(running, { id: spec.id })
}

interface Relay {
  readonly address: string
  readonly sockets: readonly Socket[]
  /** What the agent said over each connection. */
  readonly said: Buffer[][]
  /** Neither lets through nor tells. */
  freeze(): void
  /** Breaks the agent's own link, and lets no new connection through. */
  cutLink(): void
  /** Lets new ones through again. */
  mend(): void
}

/** A road to the hub that can be cut. */
async function relay(to: string, delay = 0): Promise<Relay> {
  const sockets: Socket[] = []
  const said: Buffer[][] = []
  let isCut = false
  const [, port = ''] = to.split(':')
  const server: Server = createServer({ allowHalfOpen: true }, (near) => {
    if (isCut) return void near.destroy()
    const far = connect({ port: Number(port), host: '127.0.0.1', allowHalfOpen: true })
    const words: Buffer[] = []
    said.push(words)
    sockets.push(near)
    near.on('data', (chunk) => words.push(chunk))
    for (const [from, into] of [
      [near, far],
      [far, near],
    ] as const) {
      if (delay === 0) from.pipe(into)
      else {
        // Later, in order; the end as well.
        from.on('data', (chunk) => setTimeout(() => into.write(chunk), delay))
        from.on('end', () => setTimeout(() => into.end(), delay))
      }
      from.on('error', () => into.destroy())
      from.on('close', () => into.destroy())
    }
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return {
    address: `127.0.0.1:${(server.address() as { port: number }).port}`,
    sockets,
    said,
    freeze: () => {
      isCut = true
      for (const socket of sockets) socket.pause().removeAllListeners('data').unpipe()
    },
    cutLink: () => {
      isCut = true
      sockets[0]?.resetAndDestroy()
    },
    mend: () => {
      isCut = false
    },
  }
}

/** A link with the right key, that says what it likes. */
async function sly(provider: AgentsProvider): Promise<Ends> {
  const [host = '', port] = (await provider.address()).split(':')
  const ends = await dial({ host, port: Number(port), key: KEY, ident: 'sly' }, {})
  cleanups.push(() => ends.po.disconnect())
  return ends
}

const machine = {
  boot: 'b',
  name: 'sly',
  places: 1,
  cpus: 1,
  memory: 1,
  labels: {},
  capabilities: ['command'],
  provider: 'x',
  instances: [],
}

/** Says something and ends when it is asked for anything. */
const DYING = `require('node:http')
  .createServer(() => process.stdout.write('last words\\n', () => process.exit(7)))
  .listen(process.env.PORT, process.env.HOST)`

describe('a link that is cut', () => {
  it('comes back, and its instances have not noticed', async () => {
    const provider = opened()
    const road = await relay(await provider.address())
    here(road.address)
    const running = await serving(provider)
    // Both connections of its pool are there, and stay.
    const [pid] = await Promise.all([1, 2].map(() => get(running.dispatcher, '/sleep/100')))
    const slow = get(running.dispatcher, '/sleep/700')
    road.cutLink()
    await until(() => provider.agents[0]?.state === 'away')
    road.mend()
    await come(provider)
    expect(await slow).toBe(pid)
    expect(await get(running.dispatcher, '/pid')).toBe(pid)
    expect(provider.agents[0]?.instances).toEqual([running.id])
  })

  it('an instance that ended meanwhile has ended, and what it wrote meanwhile comes', async () => {
    const provider = opened()
    const road = await relay(await provider.address())
    const told: string[] = []
    here(road.address, { onEvent: ({ what }) => told.push(what) })
    let output = ''
    const running = await serving(provider, {
      command: ['node', '-e', DYING],
      onOutput: (text: string) => (output += text),
    })
    const exits: unknown[] = []
    void running.exited.then((exit) => exits.push(exit, output))
    const since = provider.agents[0]?.since
    road.cutLink()
    await until(() => provider.agents[0]?.state === 'away')
    await fetch(String(running.address?.split(' ')[0])).catch(() => {})
    await until(() => told.includes('ended'), 'its agent knows of its end')
    road.mend()
    await come(provider)
    // All of it was heard before the agent counts as back.
    expect(exits).toMatchObject([{ reason: 'exited' }, expect.stringMatching(/^last words$/m)])
    expect(provider.agents).toMatchObject([{ since, instances: [] }])
  })

  it('a stop that was asked for meanwhile happens when it is back', async () => {
    const provider = opened()
    const road = await relay(await provider.address())
    here(road.address)
    const running = await serving(provider)
    road.cutLink()
    await until(() => provider.agents[0]?.state === 'away')
    const stopped = running.stop(0)
    road.mend()
    await stopped
    expect(pidsOf(running.id)).toEqual([])
    expect(await running.exited).toMatchObject({ reason: 'stopped' })
  })

  it('for too long: both sides have ended what was there, each on its own clock', async () => {
    const provider = opened({ evictAfter: 4_000, returnWithin: 4_000 })
    const road = await relay(await provider.address())
    here(road.address)
    const running = await serving(provider)
    road.freeze()
    expect(await running.exited).toMatchObject({ reason: 'lost' })
    expect(provider.agents).toEqual([])
    await until(() => pidsOf(running.id).length === 0)
  })
})

it('a line of 200 ms there and back: all of it works, and is only later', async () => {
  const provider = opened()
  const road = await relay(await provider.address(), 100)
  here(road.address)
  let said = ''
  const running = await serving(provider, {
    command: undefined,
    startup: async (context: StartupContext) => {
      said = await context.run('echo', 'far away')
      await context.upload('package.json', '/tmp/manyhost-far-package.json')
      await context.run('rm', '/tmp/manyhost-far-package.json')
      await context.spawn(service[0] ?? '', ...service.slice(1))
    },
  })
  expect(said).toBe('far away\n')
  const pids = await Promise.all([1, 2, 3].map(() => get(running.dispatcher, '/pid')))
  expect(new Set(pids).size).toBe(1)
})

describe('who does not belong there', () => {
  it('a handshake that was overheard is of no use', async () => {
    const provider = opened()
    const address = await provider.address()
    const road = await relay(address)
    here(road.address)
    await come(provider)
    let refused = 0
    provider.on('refused', () => refused++)
    const [host = '', port] = address.split(':')
    const thief = connect({ host, port: Number(port) })
    cleanups.push(() => thief.destroy())
    let answer = ''
    thief.on('data', (chunk) => {
      answer += chunk
    })
    thief.on('error', () => {})
    thief.write(Buffer.concat(road.said[0] ?? []))
    await once(thief, 'close')
    expect(answer).toContain('#err]authentication failed')
    await until(() => refused === 1)
    expect(provider.agents.length).toBe(1)
  })

  it('connections that say nothing are bounded, and agents do not notice', async () => {
    const provider = opened({ maxAgents: 2, maxGreeting: 3 })
    const address = await provider.address()
    here(address)
    const running = await serving(provider)
    const [host = '', port] = address.split(':')
    const idle = Array.from({ length: 20 }, () => {
      const socket = connect({ host, port: Number(port) })
      socket.on('error', () => {})
      cleanups.push(() => socket.destroy())
      return socket
    })
    await until(() => idle.filter(({ closed }) => closed).length >= 15, 'most are hung up on')
    expect(await get(running.dispatcher, '/pid')).toMatch(/^\d+$/)
    expect(provider.agents[0]?.state).toBe('up')
  })

  it('one agent more than there may be is refused, and told why', async () => {
    const provider = opened({ maxAgents: 1 })
    here(await provider.address())
    await come(provider)
    const { po } = await sly(provider)
    expect(await failure(po.call('hello', machine))).toMatchObject({
      code: 'MANYHOST_AGENT_REFUSED',
    })
  })

  it('the fencing number of another time is refused', async () => {
    const registry = new Registry()
    const provider = opened({ registry })
    const { po } = await sly(provider)
    const { fence } = (await po.call('hello', machine)) as { fence: number }
    await po.call('ready', fence)
    expect(provider.agents[0]?.name).toBe('sly')
    for (const name of ['ready', 'bye', 'leave']) {
      expect(await failure(po.call(name, fence - 1, ''))).toMatchObject({
        code: 'MANYHOST_AGENT_FENCED',
      })
    }
    expect(await failure(po.call('log', fence, 'nobody', 'x'))).toMatchObject({
      code: 'MANYHOST_AGENT_FENCED',
    })
    expect(await registry.metrics()).toMatch(/manyhost_agent_fenced_total 3/)
    expect(await registry.metrics()).toContain('manyhost_agent_agents{state="up"} 1')
  })

  it.each([
    ['no object', 7],
    ['labels that are none', { ...machine, labels: { a: 1 } }],
    [
      'too many labels',
      {
        ...machine,
        labels: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`l${i}`, ''])),
      },
    ],
    ['a long name', { ...machine, name: 'x'.repeat(129) }],
    ['negative places', { ...machine, places: -1 }],
  ])('a hello with %s is refused, and the link lives', async (_, said) => {
    const provider = opened()
    const { po } = await sly(provider)
    expect(await failure(po.call('hello', said))).toMatchObject({ code: 'MANYHOST_WIRE_PROTOCOL' })
    expect(po.isConnected).toBe(true)
    expect(provider.agents).toEqual([])
  })

  it('tickets that were not issued open nothing', async () => {
    const provider = opened()
    const { po } = await sly(provider)
    expect(await po.call('lane', 'f'.repeat(32))).toBe(false)
    expect(await po.call('files', 'f'.repeat(32))).toBe(false)
    expect(await failure(po.call('entry', 'file', 'tree', 0, 0, ''))).toMatchObject({
      code: 'MANYHOST_WIRE_PROTOCOL',
    })
  })

  it('an agent says by itself what it cannot do: the start goes on, and ends', async () => {
    const provider = opened({ returnWithin: 0 })
    const { po } = await sly(provider)
    // It has no function `start`.
    const { fence } = (await po.call('hello', machine)) as { fence: number }
    await po.notif(code`ready(${fence})`)
    const spec = specOf({ command: service })
    const error = failure(provider.start(spec, { signal: unending }))
    await until(() => provider.agents[0]?.instances.length === 1)
    await po.disconnect()
    expect(await error).toMatchObject({ code: 'MANYHOST_START_FAILED' })
  })
})

describe('placement', () => {
  it('waits while nobody has room, says so, and goes on when there is', async () => {
    const provider = opened()
    const address = await provider.address()
    const spec = specOf({ command: service, labels: { 'require.gpu': 'a100' } })
    const starting = provider.start(spec, { signal: unending })
    await until(() => spec.output.includes('no agent is connected'))
    here(address, { places: 1 })
    await come(provider)
    const over = new AbortController()
    const impatient = specOf({ command: service, labels: { 'require.gpu': 'a100' } })
    const refused = failure(provider.start(impatient, { signal: over.signal }))
    await until(() => impatient.output.includes('waits for an agent'))
    over.abort(new Error('enough'))
    expect((await refused).message).toContain('enough; no agent has room: 1 without gpu=a100')
    here(address, { places: 1, name: 'other', labels: { gpu: 'a100' } })
    const running = await starting
    expect(running.address).toContain('on other')
    const next = specOf({ command: service, labels: { 'require.gpu': '*' } })
    const second = provider.start(next, { signal: unending })
    await until(() => next.output.includes('full'))
    await running.stop(0)
    await (await second).stop(0)
  })
})

describe('encrypted', () => {
  const folder = mkdtempSync(join(tmpdir(), 'manyhost-agent-tls-'))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  const files = certificate(folder, 'localhost')
  const cert = readFileSync(files.cert, 'utf8')
  const tls = { certFile: files.cert, certKeyFile: files.key }

  it('known by the fingerprint of its certificate, with lanes and files', async () => {
    const provider = opened(tls)
    const { fingerprint256: fingerprint } = new X509Certificate(cert)
    here(await provider.address(), { tls: { fingerprint } })
    const running = await serving(provider, { concurrency: 3 })
    const answers = await Promise.all([1, 2, 3].map(() => get(running.dispatcher, '/pid')))
    expect(new Set(answers).size).toBe(1)
  })

  it('another certificate is refused before anything is said', async () => {
    const provider = opened(tls)
    const ended = runAgent({
      address: await provider.address(),
      key: KEY,
      tls: { fingerprint: `sha256:${'00'.repeat(32)}` },
    })
    expect(await failure(ended)).toMatchObject({ code: 'MANYHOST_WIRE_AUTH' })
  })
})

describe('options', () => {
  it.each([
    [{}, /key or keyFile/],
    [{ key: 'short' }, /16 bytes/],
    [{ key: KEY, listen: '0.0.0.0:1' }, /insecure/],
    [{ key: KEY, listen: 'nowhere' }, /host:port/],
    [{ key: KEY, evictAfter: 10 }, /two beats/],
    [{ key: KEY, keyFile: 'x' }, /two/],
    [{ keyFile: '/no/such' }, /cannot be read/],
    [{ key: KEY, certFile: 'x' }, /go together/],
    [{ key: KEY, colour: 'red' }, /unknown option 'colour'/],
  ])('%j is refused', (options, message) => {
    const error = thrown(() => agents(options as never))
    expect(error).toMatchObject({ code: 'MANYHOST_INVALID_OPTION' })
    expect(error.message).toMatch(message)
  })

  it.each([
    [{}, /key/],
    [{ key: KEY, places: 0 }, /places/],
    [{ key: KEY, address: '10.0.0.1:1' }, /insecure/],
    [{ key: KEY, labels: 7 }, /labels/],
  ])('an agent with %j is refused', async (options, message) => {
    const error = await failure(runAgent(options as never))
    expect(error).toMatchObject({ code: 'MANYHOST_INVALID_OPTION' })
    expect(error.message).toMatch(message)
  })

  it('a provider that was given to an agent is left to its maker', async () => {
    const local = processes()
    const provider = opened()
    const agent = here(await provider.address(), { provider: local })
    await serving(provider)
    await agent.end()
    const spec = specOf({ command: service })
    await (await local.start(spec, { signal: unending })).stop(0)
    await local.close?.()
  })
})

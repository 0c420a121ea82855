/** Functions that a user gives to maps, dispatchers, workers, agents, startups and others: none ends the program. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import { buildConnector } from 'undici'
import { describe, expect, onTestFinished, test } from 'vitest'
import { processes } from '../../providers/process/index.ts'
import { Worker } from '../../providers/pull/index.ts'
import { fixed } from '../../providers/static.ts'
import { inProcess } from '../../providers/testing/index.ts'
import type { StartupContext } from '../../src/core/provider.ts'
import { adminHandler } from '../../src/gateway/admin/handler.ts'
import { Session } from '../../src/index.ts'
import { runAgent } from '../../src/tasks.ts'
import { useFalseClock } from '../clock.ts'
import { rejectionOf, waitUntil } from '../help.ts'
import { all, ask, hanging, nonsense, quiet, serving, throwing, warnings } from './misbehaviour.ts'

// biome-ignore lint/suspicious/noExplicitAny: wrong functions are what is tested
type Any = (...args: any[]) => any

const cases = all as readonly (readonly [string, Any])[]
const failing = throwing as readonly (readonly [string, Any])[]

describe('a function that gives a body: its request fails with that, no slot is lost, and others are served, when it', () => {
  const isBody = /promise of|empty object|that never settles|then does nothing/
  test.each(cases.filter(([name]) => !isBody.test(name)))('%s', async (_name, body) => {
    const { session } = serving({ concurrency: 1 })
    const error = await rejectionOf(session.client().post('http://calc/', { body: body as Any }))
    expect(error).toMatchObject({ code: 'MANYHOST_BODY_FAILED' })
    await waitUntil(() => session.cluster('http://calc').inFlight === 0)
    expect(await ask(session)).toEqual(new Set([200]))
  })

  test('answers a promise that never settles', async () => {
    const clock = useFalseClock()
    const { session } = serving({ concurrency: 1 })
    const body = (): Promise<never> => new Promise(() => undefined)
    const post = session.client().post('http://calc/', { body })
    const failed = rejectionOf(post)
    await clock.passUntil(5_000, () => session.cluster('http://calc').stats().failures > 0)
    expect(await failed).toMatchObject({ code: 'MANYHOST_BODY_FAILED' })
    await clock.passUntil(100, () => session.cluster('http://calc').inFlight === 0)
  })
})

describe('map', () => {
  const squares = (): Session => serving({ concurrency: 4 }).session

  test.each([...failing, ...nonsense, ...hanging])(
    'request %s: each item has its outcome',
    async (name, request) => {
      const outcomes = []
      for await (const one of squares().map('http://calc/', [1, 2, 3], { request: request as Any }))
        outcomes.push(one)
      expect(outcomes.map(({ index }) => index)).toEqual([0, 1, 2])
      const isAnObject = /empty object|valueOf|getters/.test(name)
      if (!isAnObject) for (const { error } of outcomes) expect(error).toBeInstanceOf(Error)
    },
  )

  test.each(failing)('read %s: each item has an error', async (_name, read) => {
    const outcomes = []
    for await (const one of squares().map('http://calc/', [1, 2], { read: read as Any }))
      outcomes.push(one)
    expect(outcomes.map(({ error }) => error instanceof Error)).toEqual([true, true])
  })

  test.each(hanging)('read %s: the signal ends it', async (_name, read) => {
    const giveUp = new AbortController()
    const run = squares().map('http://calc/', [1, 2], { read: read as Any, signal: giveUp.signal })
    const ended = rejectionOf(run.next())
    giveUp.abort()
    expect(await ended).toMatchObject({ code: 'MANYHOST_ABORTED' })
  })

  test('a source that gives one item and then nothing: its outcome comes, and the signal ends it', async () => {
    const giveUp = new AbortController()
    const source = (async function* () {
      yield 1
      await new Promise(() => undefined)
    })()
    const run = squares().map('http://calc/', source, { signal: giveUp.signal })
    expect(await run.next()).toMatchObject({ value: { index: 0 } })
    const ended = rejectionOf(run.next())
    giveUp.abort()
    expect(await ended).toMatchObject({ code: 'MANYHOST_ABORTED' })
  })

  test.each([undefined, null, 5, {}, Symbol('x')])(
    'a source that is %s is refused',
    async (source) => {
      const run = squares().map('http://calc/', source as never)
      expect(await rejectionOf(run.next())).toMatchObject({ code: 'MANYHOST_INVALID_OPTION' })
    },
  )
})

describe('a handler of the dispatcher that throws gives its request up, and no slot is lost, in', () => {
  const calls = [
    'onRequestStart',
    'onResponseStart',
    'onResponseData',
    'onResponseEnd',
    'onResponseError',
  ]
  test.each(calls.flatMap((call) => failing.map(([how, act]) => [call, how, act] as const)))(
    '%s: %s',
    async (call, how, act) => {
      if (how.startsWith('rejects')) return
      const { session } = serving()
      let isOver = (): void => undefined
      const over = new Promise<void>((resolve) => {
        isOver = resolve
      })
      const handler = {
        onRequestStart: () => undefined,
        onResponseStart: () => undefined,
        onResponseData: () => undefined,
        onResponseEnd: () => isOver(),
        onResponseError: () => isOver(),
        [call]: (...args: unknown[]) => {
          if (call === 'onResponseEnd' || call === 'onResponseError') isOver()
          return act(...args)
        },
      }
      const origin = call === 'onResponseError' ? { method: 'GET bad' } : {}
      const options = { origin: 'http://calc', path: '/', method: 'GET', ...origin }
      session.dispatcher().dispatch(options as never, handler as never)
      await over
      await waitUntil(() => session.cluster('http://calc').inFlight === 0)
    },
  )
})

describe('handlers of instances in this process', () => {
  test.each(failing)('a handler %s: it is answered with 500', async (_name, act) => {
    for (const style of ['node', 'web'] as const) {
      const provider = inProcess(act, { style: style as 'web' })
      const { session } = serving({}, { provider })
      const response = await session.client().get('http://calc/')
      expect([response.status, typeof (await response.text())]).toEqual([500, 'string'])
    }
  })

  test.each(failing)('upgrade %s: its slot is free again', async (_name, act) => {
    const provider = inProcess((_req, res) => res.end(), { style: 'node', upgrade: act })
    const { session } = serving({}, { provider })
    const { upgrade } = await import('undici')
    await rejectionOf(
      upgrade('http://calc/', { dispatcher: session.dispatcher(), protocol: 'x' }) as never,
    )
    await waitUntil(() => session.cluster('http://calc').inFlight === 0)
  })
})

describe('`connect` of addresses: the request is sent again over another connection, when the first', () => {
  const answering = (...given: unknown[]) => [
    `answers ${String(given[1] ?? given[0])}`,
    (_options: object, callback: Any) => void setImmediate(() => callback(...given)),
  ]
  const bad = [
    ...failing,
    answering(null, 5),
    answering(null, undefined),
    answering(null, {}),
    answering('a text'),
    answering(new Error('no way'), null),
  ] as [string, Any][]
  test.each(bad)('%s', async (_name, act) => {
    const server = createServer((_req, res) => res.end('3')).listen(0, '127.0.0.1')
    onTestFinished(() => void server.close())
    await once(server, 'listening')
    const { port } = server.address() as { port: number }
    const good = buildConnector({})
    let count = 0
    const provider = fixed({
      urls: [`http://127.0.0.1:${port}`],
      connect: (...args) => (count++ === 0 ? act(...args) : good(...args)),
    })
    const { session } = serving({}, { provider })
    const response = await session.client().get('http://calc/')
    expect([response.status, await response.text()]).toEqual([200, '3'])
  })
})

describe('functions that are only told something', () => {
  test.each(failing)('onError of a Worker %s: it goes on', async (_name, onError) => {
    const told = warnings()
    const worker = new Worker({ url: 'http://127.0.0.1:1/services/x', handle: () => ({}), onError })
    worker.start()
    await waitUntil(() => told.some((text) => text.includes('onError of a Worker')))
    await worker.stop()
  })

  test.each(failing)('onEvent of runAgent %s: it goes on to its end', async (_name, onEvent) => {
    const told = warnings()
    const key = 'sixteen bytes and more'
    await runAgent({ address: 'unix:/nowhere/x', key, hubTimeout: 50, onEvent })
    await quiet()
    expect(told.filter((text) => text.includes('onEvent of runAgent'))).toHaveLength(1)
  })
})

test.each(cases)(
  'isReady of the admin address %s: it is as ready as the services',
  async (_name, isReady) => {
    const { session } = serving()
    await waitUntil(() => session.cluster('http://calc').instances[0]?.state === 'ready')
    const handler = adminHandler(session, { metrics: session.metrics, isReady })
    const server = createServer(handler).listen(0, '127.0.0.1')
    onTestFinished(() => {
      handler.close()
      server.close()
    })
    await once(server, 'listening')
    const { port } = server.address() as { port: number }
    const response = await fetch(`http://127.0.0.1:${port}/readyz`)
    await response.text()
    expect(response.status).toBe(200)
  },
)

describe('a startup function', () => {
  const open = (startup: (ctx: StartupContext) => unknown) => {
    const session = new Session({ provider: processes(), tickInterval: 20 })
    onTestFinished(() => session.close({ force: true }))
    const errors: Error[] = []
    session.on('error', (error) => errors.push(error))
    session.startup({ url: 'http://calc', startTimeout: 1_000 }, startup as never)
    return { session, errors }
  }

  test.each(failing)('%s: the start has failed, and says so', async (_name, startup) => {
    const { errors } = open(startup)
    await waitUntil(() => errors.length > 0)
    expect(errors[0]).toMatchObject({
      code: 'MANYHOST_START_FAILED',
      message: expect.stringContaining('the startup function threw'),
    })
  })

  test.each([
    ['ctx.spawn', (ctx: StartupContext) => void ctx.spawn('/nowhere/server')],
    ['ctx.run', (ctx: StartupContext) => void ctx.run('sh', '-c', 'exit 3')],
    ['ctx.upload', (ctx: StartupContext) => void ctx.upload('/nowhere/a', 'b')],
    ['ctx.download', (ctx: StartupContext) => void ctx.download('/nowhere/a', '/tmp/nowhere/b')],
  ])(
    'does not wait for %s, which fails: the output of the failed start says so',
    async (name, startup) => {
      const { errors } = open(startup)
      await waitUntil(() => errors.length > 0)
      expect(errors[0]?.message).toContain(
        `${name}, which the startup function did not wait for, failed: `,
      )
    },
  )

  test('waits for what fails later than at once: that is its own affair', async () => {
    const seen: string[] = []
    const { errors } = open(async (ctx) => {
      const running = ctx.run('sh', '-c', 'exit 3')
      await ctx.run('sleep', '0.05')
      await running.catch((error: { code: string }) => seen.push(error.code))
      ctx.spawn('/nowhere').catch((error: { code: string }) => seen.push(error.code))
      await ctx.run('sleep', '0.05')
    })
    await waitUntil(() => errors.length > 0)
    expect(seen).toContain('MANYHOST_RUN_FAILED')
    expect(seen).toHaveLength(2)
  })
})

/** Starts that succeed, and starts that do not. */
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { inProcess } from '../../providers/testing/index.ts'
import { type InstanceEvent, Session } from '../../src/index.ts'
import {
  countStates,
  createHoldingProvider,
  createLatch,
  findInstancePids,
  NEVER,
  nextEvent,
  recordEvents,
  rejectionOf,
  runEventLoop,
  service,
  waitForReady,
  waitUntil,
} from '../help.ts'

let session: Session
beforeEach(() => {
  session = new Session({ tickInterval: 5 })
})
afterEach(() => session.close({ force: true }))

describe('a start that succeeds', () => {
  test('by command: each state is said once, in order', async () => {
    const events = recordEvents(session, 'instance')
    session.startup({ url: 'http://calc', command: service, ready: '/health' })
    await waitForReady(session, 'http://calc', 1)
    await session.close()
    expect(events.map(({ from, state }) => `${from} ${state}`)).toEqual([
      'undefined pending',
      'pending starting',
      'starting ready',
      'ready draining',
      'draining stopped',
    ])
    expect(findInstancePids(events[0]?.instance ?? '')).toEqual([])
  })

  test('is ready only when the ready path answers 2xx', async () => {
    let status = 503
    const asked = createLatch()
    const provider = inProcess((req, res) => {
      if (req.url === '/up') asked.open()
      res.writeHead(status).end()
    })
    session.startup({ url: 'http://calc', provider, ready: '/up' })
    const answer = session.client().get('http://calc/')
    await asked.promise
    expect(countStates(session, 'http://calc')).toEqual({ starting: 1 })
    status = 204
    expect((await answer).status).toBe(204)
  })

  test('counts as a cold start in the figures', async () => {
    session.startup({ url: 'http://calc', provider: createHoldingProvider().provider, initSize: 2 })
    await waitForReady(session, 'http://calc', 2)
    const text = await session.metrics.metrics()
    expect(text).toContain('manyhost_starts_total{service="http://calc",outcome="ready"} 2')
    expect(text).toContain('manyhost_start_duration_seconds_count{service="http://calc"} 2')
  })
})

describe('a start that fails', () => {
  /** Starts a service that cannot, and waits for so many failures. */
  async function fails(options: object, startup?: () => Promise<void>, count = 3) {
    const errors = recordEvents(session, 'error')
    const events = recordEvents(session, 'instance')
    session.startup({ url: 'http://calc', startTimeout: 400, ...options }, startup)
    await waitUntil(() => errors.length >= count)
    const failed = events.filter(({ state }) => state === 'failed') as InstanceEvent[]
    return { error: errors[0], failed, snapshot: session.snapshot().clusters[0], events }
  }

  const [node, script] = service as [string, string]
  const patient = { startTimeout: 20_000 }

  test.each([
    ['exits at once', { command: [...service, 'exit'], ...patient }, /START_FAILED/, /exit code 3/],
    [
      'a missing command',
      { command: ['no-such-command'], ...patient },
      /START_FAILED/,
      /not found/,
    ],
    ['never listens', { command: [...service, 'deaf'] }, /START_TIMEOUT/, /within 400 ms/],
    ['never answers', { command: service, ready: '/hang' }, /START_TIMEOUT/, /within 400 ms/],
  ])('%s: retried, with a message that says why', async (_, options, code, reason) => {
    const { error, failed, snapshot } = await fails(options)
    expect(error?.code).toMatch(code)
    expect(error?.message).toMatch(reason)
    expect(error?.message).toContain('http://calc')
    expect(snapshot?.failure).toMatch(reason)
    expect(new Set(failed.map(({ instance }) => instance)).size).toBe(failed.length)
    expect(failed.every(({ from }) => from === 'starting')).toBe(true)
  })

  test('the wrong port: retried, with a message that says what the last try met', async () => {
    // Time enough for one try, whatever else the machine does.
    const options = { command: [...service, 'wrong-port'], startTimeout: 5_000 }
    const { error, failed } = await fails(options, undefined, 1)
    expect(error?.code).toBe('MANYHOST_START_TIMEOUT')
    expect(error?.message).toMatch(/within 5000 ms .*last try: .*ECONNREFUSED/)
    const again = await nextEvent(session, 'instance', ({ state }) => state === 'starting')
    expect(again.instance).not.toBe(failed[0]?.instance)
  })

  test('what the server wrote is in the error, the event and nowhere too long', async () => {
    const { error, failed } = await fails(
      { command: [node, script, 'exit'], ...patient },
      undefined,
      1,
    )
    expect(error?.message).toContain('cannot read the configuration')
    expect(failed[0]?.output).toContain('cannot read the configuration')
  })

  test('8 MB of output: the last 64 KiB are kept', async () => {
    const { error } = await fails({ command: [...service, 'print'], ...patient }, undefined, 1)
    expect(error?.output).toMatch(/the last line\n$/)
    expect(error?.output?.length).toBeLessThanOrEqual(65_536)
  })

  test('a startup function that throws, and one whose command fails', async () => {
    const { error } = await fails({}, async () => {
      throw new Error('no such tape')
    })
    expect(error?.message).toContain('no such tape')
    session.startup({ url: 'http://other' }, async (ctx) => {
      await ctx.run(node, '-e', 'console.error("half done"); process.exit(9)')
    })
    const failed = await nextEvent(session, 'error', ({ service: url }) => url === 'http://other')
    expect(failed.message).toMatch(/exit code 9: half done/)
  })

  test('tells a request that waited for startTimeout what the failure is', async () => {
    const { provider } = createHoldingProvider()
    const cannot = { ...provider, capabilities: provider.capabilities }
    cannot.start = async () => {
      throw new Error('cannot read the configuration')
    }
    session.startup({ url: 'http://calc', provider: cannot, startTimeout: 300 })
    const error = await rejectionOf(session.client().get('http://calc/'))
    expect(error).toMatchObject({ code: 'MANYHOST_START_FAILED', status: 503, retryable: true })
    expect(error.message).toContain('cannot read the configuration')
  })
})

describe('a backoff', () => {
  /** Half of the longest jitter: the n-th wait is 75 % of 100 * 2^n. */
  const random = (): number => 0.5
  const waits = [75, 150, 300, 600, 1_200]
  let slow: Session
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
    slow = new Session({ tickInterval: NEVER, random })
  })
  afterEach(async () => {
    vi.useRealTimers()
    await slow.close({ force: true })
  })

  /** Times between the starts, by the false clock. */
  async function gaps(count: number): Promise<number[]> {
    const at: number[] = []
    slow.on('instance', ({ from }) => from === 'pending' && at.push(performance.now()))
    while (at.length <= count) {
      await runEventLoop()
      await vi.advanceTimersToNextTimerAsync()
    }
    return at.slice(1).map((time, i) => Math.round(time - (at[i] as number)))
  }

  test('waits longer each time, by doubling with jitter, and begins anew after a success', async () => {
    const { provider } = createHoldingProvider({ failStarts: 5 })
    slow.startup({ url: 'http://calc', provider, startTimeout: NEVER })
    expect(await gaps(5)).toEqual(waits)
    await runEventLoop()
    expect(countStates(slow, 'http://calc')).toEqual({ ready: 1 })
    expect(slow.snapshot().clusters[0]?.failure).toBeNull()
  })

  test('is that of a crash loop as well', async () => {
    const inner = inProcess((_req, res) => void res.end())
    slow.on('instance', ({ state }) => {
      if (state === 'ready') setImmediate(() => inner.instances[0]?.kill())
    })
    slow.startup({ url: 'http://calc', provider: inner, startTimeout: NEVER })
    expect(await gaps(5)).toEqual(waits)
  })
})

describe('how many start at a time', () => {
  test('no more than maxStarting, until all are there', async () => {
    const { provider } = createHoldingProvider({ startDelay: 3 })
    let most = 0
    session.on('instance', () => {
      most = Math.max(most, countStates(session, 'http://calc').starting ?? 0)
    })
    session.startup({ url: 'http://calc', provider, initSize: 20, maxStarting: 3 })
    await waitForReady(session, 'http://calc', 20)
    expect(most).toBe(3)
  })

  test('a size beyond all bounds makes no more than may start', async () => {
    const { provider } = createHoldingProvider({ startDelay: NEVER })
    session.startup({ url: 'http://calc', provider, initSize: 0, maxStarting: 4 })
    session.setSize('http://calc', Number.MAX_SAFE_INTEGER)
    await waitUntil(() => countStates(session, 'http://calc').starting === 4)
    expect(session.cluster('http://calc').instances.length).toBeLessThanOrEqual(8)
  })

  test('slowStart lets the places of a new instance grow', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    onTestFinished(() => void vi.useRealTimers())
    const { provider, held, holds } = createHoldingProvider()
    session.startup({ url: 'http://calc', provider, concurrency: 5, slowStart: 200 })
    await waitForReady(session, 'http://calc', 1)
    const answers = [1, 2, 3, 4, 5].map((n) => session.client().get(`http://calc/${n}`))
    for (const places of [1, 2, 3, 4, 5]) {
      await holds(places)
      await runEventLoop()
      expect(held).toHaveLength(places)
      vi.advanceTimersByTime(50)
    }
    for (const one of [...held]) one.answer()
    await Promise.all(answers)
  })
})

describe('a start that is given up', () => {
  test('a size of 0 cancels it, and its process is gone', async () => {
    session.startup({ url: 'http://calc', command: [...service, 'deaf'] })
    const { instance } = await nextEvent(session, 'instance', ({ state }) => state === 'starting')
    await waitUntil(() => findInstancePids(instance).length > 0)
    const stopped = nextEvent(session, 'instance', ({ state }) => state === 'stopped')
    session.setSize('http://calc', 0)
    await stopped
    expect(findInstancePids(instance)).toEqual([])
  })

  test('starts go before those that are up, idle ones before busy ones', async () => {
    const { provider, holds, held } = createHoldingProvider()
    let delay = 0
    const slow = { ...provider, start: provider.start.bind(provider) }
    slow.start = async (spec, options) => {
      if (delay > 0)
        await new Promise((_, reject) => options.signal.addEventListener('abort', reject))
      return provider.start(spec, options)
    }
    session.startup({ url: 'http://calc', provider: slow, initSize: 3 })
    await waitForReady(session, 'http://calc', 3)
    const answer = session.client().get('http://calc/one')
    await holds(1)
    delay = 1
    session.setSize('http://calc', 5)
    await waitUntil(() => countStates(session, 'http://calc').starting === 2)
    session.setSize('http://calc', 3)
    await waitUntil(() => session.cluster('http://calc').instances.length === 3)
    expect(countStates(session, 'http://calc')).toEqual({ ready: 3 })
    session.setSize('http://calc', 1)
    await waitUntil(() => session.cluster('http://calc').instances.length === 1)
    expect(session.cluster('http://calc').instances[0]?.id).toBe(held[0]?.instance)
    held[0]?.answer()
    expect((await answer).status).toBe(200)
  })

  test('what comes to run too late is stopped again, and close waits for it', async () => {
    const { provider } = createHoldingProvider()
    const gate = createLatch()
    const stopped: string[] = []
    const slow = { ...provider, start: provider.start.bind(provider) }
    slow.start = async (spec, { signal: _ }) => {
      await gate.promise
      const running = await provider.start(spec, { signal: new AbortController().signal })
      void running.exited.then(() => stopped.push(spec.id))
      return running
    }
    session.startup({ url: 'http://calc', provider: slow })
    await waitUntil(() => countStates(session, 'http://calc').starting === 1)
    const closed = session.close({ force: true })
    gate.open()
    await closed
    expect(stopped).toHaveLength(1)
  })
})

/** Draining, and the end of a session: every request settles, and nothing is left behind. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { inProcess } from '../../providers/testing/index.ts'
import { Session } from '../../src/index.ts'
import {
  countStates,
  createGate,
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
  session = new Session({ tickInterval: NEVER })
})
afterEach(() => session.close({ force: true }))

const url = 'http://calc'

function get(path: string, options = {}) {
  return session.client().get(`${url}/${path}`, options)
}

describe('scaling down', () => {
  test('a running request ends first, and the draining instance gets no other', async () => {
    const { provider, holds, held, seen } = createHoldingProvider()
    session.startup({ url, provider, concurrency: 4 })
    const one = get('one')
    await holds(1)
    session.setSize(url, 0)
    await waitUntil(() => countStates(session, url).draining === 1)
    const two = get('two')
    await runEventLoop()
    expect(seen).toEqual(['one'])
    held[0]?.answer()
    await one
    await waitUntil(() => session.cluster(url).instances.length === 0)
    session.setSize(url, 1)
    await waitUntil(() => held.length === 1)
    held[0]?.answer()
    expect(await (await two).text()).toBe('two')
  })

  test('an answer that is being read counts as running', async () => {
    const end = createLatch()
    const provider = inProcess(async (_req, res) => {
      res.write('one ')
      await end.promise
      res.end('two')
    })
    session.startup({ url, provider })
    const { body } = await get('')
    const reader = (body as ReadableStream<Uint8Array>).getReader()
    let text = Buffer.from((await reader.read()).value ?? []).toString()
    session.setSize(url, 0)
    await waitUntil(() => countStates(session, url).draining === 1)
    await runEventLoop()
    expect(provider.instances).toHaveLength(1)
    end.open()
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      text += Buffer.from(next.value)
    }
    expect(text).toBe('one two')
    await waitUntil(() => session.cluster(url).instances.length === 0)
  })

  test('drainTimeout takes the request away, and another instance serves it', async () => {
    const { provider, holds, held, seen } = createHoldingProvider()
    session.startup({ url, provider, initSize: 2, drainTimeout: 20 })
    await waitForReady(session, url, 2)
    const answers = [get('one'), get('two')]
    await holds(2)
    const resent = nextEvent(session, 'resend')
    session.setSize(url, 1)
    await resent
    expect((await resent).reason).toBe('ended')
    await waitUntil(() => session.cluster(url).instances.length === 1)
    // The one that stays has a place only when its own request has ended.
    await waitUntil(() => held.length === 1)
    held[0]?.answer()
    await waitUntil(() => seen.length === 3 && held.length === 1)
    held[0]?.answer()
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([200, 200])
  })

  test('down and up again in one turn changes nothing', async () => {
    const { provider } = createHoldingProvider()
    session.startup({ url, provider, initSize: 2 })
    await waitForReady(session, url, 2)
    const events = recordEvents(session, 'instance')
    session.setSize(url, 0)
    session.setSize(url, 2)
    await runEventLoop()
    expect([events, countStates(session, url)]).toEqual([[], { ready: 2 }])
  })
})

describe('close', () => {
  test('lets what runs and what waits end, takes nothing new, and stops every process', async () => {
    session.startup({ url, command: service, initSize: 2 })
    await waitForReady(session, url, 2)
    const ids = session.cluster(url).instances.map(({ id }) => id)
    const work = createGate()
    const answers = [1, 2, 3, 4].map(() => get(`pid?${work.until}`))
    await waitUntil(() => session.cluster(url).inFlight === 2)
    const closed = session.close()
    expect((await rejectionOf(get('pid'))).code).toBe('MANYHOST_SESSION_CLOSED')
    work.open()
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([200, 200, 200, 200])
    await closed
    expect(ids.flatMap(findInstancePids)).toEqual([])
    expect(session.cluster(url).instances).toEqual([])
  })

  test('resends go on while it drains', async () => {
    const { provider, holds, held, kill } = createHoldingProvider()
    session.startup({ url, provider })
    await (await get('now')).text()
    const answer = get('one')
    await holds(1)
    const closed = session.close()
    kill()
    await holds(1)
    held[0]?.answer()
    expect((await answer).status).toBe(200)
    await closed
  })

  test('with force: all ends at once, with one error and no resend', async () => {
    const { provider, holds } = createHoldingProvider()
    session.startup({ url, provider, initSize: 2, resend: 'never' })
    await waitForReady(session, url, 2)
    const resends = recordEvents(session, 'resend')
    const errors = [1, 2, 3, 4].map((n) => rejectionOf(get(String(n))))
    await holds(2)
    await session.close({ force: true })
    for (const error of await Promise.all(errors))
      expect(error.code).toBe('MANYHOST_SESSION_CLOSED')
    expect([resends, provider.instances]).toEqual([[], []])
  })

  test('after timeout: what is left ends with an error', async () => {
    const { provider, holds } = createHoldingProvider()
    session.startup({ url, provider })
    const errors = [rejectionOf(get('one')), rejectionOf(get('two'))]
    await holds(1)
    await session.close({ timeout: 20 })
    for (const error of await Promise.all(errors))
      expect(error.code).toBe('MANYHOST_SESSION_CLOSED')
  })

  test('is idempotent, and a later force is heeded', async () => {
    const { provider, holds } = createHoldingProvider()
    session.startup({ url, provider })
    const error = rejectionOf(get('one'))
    await holds(1)
    const ends: string[] = []
    const closes = [session.close(), session.close()]
    for (const close of closes) void close.then(() => ends.push('closed'))
    await runEventLoop()
    expect(ends).toEqual([])
    await session.close({ force: true })
    await Promise.all(closes)
    expect((await error).code).toBe('MANYHOST_SESSION_CLOSED')
    const closed = recordEvents(session, 'cluster')
    await session.close()
    expect(closed).toEqual([])
  })

  test('a later force also ends an instance that ignores SIGTERM', async () => {
    const script =
      'process.on("SIGTERM", () => {}); setInterval(() => {}, 1000); await import(process.argv[1])'
    const [node, path] = service as [string, string]
    const command = [node, '--input-type=module', '-e', script, path]
    session.startup({ url, command, stopGrace: NEVER })
    const pid = Number(await (await get('pid')).text())
    const [instance] = session.cluster(url).instances.map(({ id }) => id) as [string]
    expect(findInstancePids(instance)).toEqual([pid])
    const closed = session.close()
    await waitUntil(() => countStates(session, url).draining === 1)
    await runEventLoop()
    await session.close({ force: true })
    await closed
    expect(findInstancePids(instance)).toEqual([])
  })

  test('during starts: they are given up, and their processes gone', async () => {
    session.startup({ url, command: [...service, 'deaf'], initSize: 3 })
    const ids: string[] = []
    session.on('instance', ({ instance, state }) => state === 'starting' && ids.push(instance))
    await waitUntil(() => ids.length === 3 && ids.every((id) => findInstancePids(id).length > 0))
    const stopped = recordEvents(session, 'instance')
    await session.close()
    expect(ids.flatMap(findInstancePids)).toEqual([])
    expect(stopped.map(({ state }) => state).sort()).toEqual([
      ...Array(3).fill('draining'),
      ...Array(3).fill('stopped'),
    ])
  })

  test('in the very turn of the startup', async () => {
    const { provider } = createHoldingProvider()
    session.startup({ url, provider })
    await session.close()
    expect(provider.instances).toEqual([])
  })

  test('with size 0 and waiting requests: they are told at once', async () => {
    const { provider } = createHoldingProvider()
    session.startup({ url, provider, initSize: 0 })
    const errors = [rejectionOf(get('one')), rejectionOf(get('two'))]
    await runEventLoop()
    await session.close()
    for (const error of await Promise.all(errors))
      expect(error.code).toBe('MANYHOST_SESSION_CLOSED')
  })

  test('while starts fail: who waits is told at once', async () => {
    session.startup({ url, command: ['no-such-command'] })
    const error = rejectionOf(get('one'))
    await nextEvent(session, 'error')
    await session.close()
    expect((await error).code).toBe('MANYHOST_SESSION_CLOSED')
  })

  test('waits for a failed instance to be gone, and for no provider that never ends one', async () => {
    const { provider } = createHoldingProvider()
    const gate = createLatch()
    const slow = { ...provider, start: provider.start.bind(provider) }
    slow.start = async (spec, options) => {
      const running = await provider.start(spec, options)
      const stop = async (grace: number): Promise<void> => {
        await gate.promise
        await running.stop(grace)
      }
      const { dispatcher, exited } = running
      return { dispatcher, exited, stop }
    }
    session.startup({ url, provider: slow, onStop: 'ignore', initSize: 2 })
    await waitForReady(session, url, 2)
    provider.instances[0]?.kill()
    await waitUntil(() => session.cluster(url).instances.length === 1)
    let isClosed = false
    const closed = session.close().then(() => {
      isClosed = true
    })
    await runEventLoop()
    expect(isClosed).toBe(false)
    gate.open()
    await closed
  })

  test('a startup, a size or a request after it is refused', async () => {
    const { provider } = createHoldingProvider()
    session.startup({ url, provider })
    await session.close()
    for (const call of [
      () => session.startup({ url: 'http://other', provider }),
      () => session.setSize(url, 1),
    ]) {
      expect(call).toThrow(/closed/)
    }
    expect((await rejectionOf(get('one'))).code).toBe('MANYHOST_SESSION_CLOSED')
  })

  test('ends also what takes over, and what was taken away and has not ended yet', async () => {
    const { provider, holds } = createHoldingProvider()
    const other = createHoldingProvider({ startDelay: NEVER })
    session.startup({ url, provider })
    session.startup({ url: 'http://other', provider })
    const error = rejectionOf(get('one'))
    await holds(1)
    const removed = session.remove(url)
    const updated = rejectionOf(session.update({ url: 'http://other', provider: other.provider }))
    await runEventLoop()
    await session.close({ force: true })
    await removed
    expect((await error).code).toBe('MANYHOST_SESSION_CLOSED')
    expect((await updated).code).toBe('MANYHOST_SESSION_CLOSED')
    expect([provider.instances, other.provider.instances]).toEqual([[], []])
  })
})

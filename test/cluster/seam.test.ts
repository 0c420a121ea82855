/** What a provider may say beyond `start`: that a place will be lost, how many requests it takes, how many there may be. */
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest'
import type { Provider, Running } from '../../src/core/provider.ts'
import { Session } from '../../src/index.ts'
import {
  countStates,
  createHoldingProvider,
  createLatch,
  NEVER,
  nextEvent,
  recordEvents,
  runEventLoop,
  waitForReady,
  waitUntil,
} from '../help.ts'

const url = 'http://calc'

let session: Session
beforeEach(() => {
  session = new Session({ tickInterval: 5 })
})
afterEach(() => session.close({ force: true }))

type Said = Pick<Running, 'leaving' | 'slots'>

/** The same, and what each of its instances says of itself. */
function saying(inner: Provider, of: (id: string) => Said, more: Partial<Provider> = {}): Provider {
  return {
    name: 'saying',
    capabilities: inner.capabilities,
    async start(spec, options) {
      const running = await inner.start(spec, options)
      const { dispatcher, exited } = running
      const accepts = (signal: AbortSignal) => running.accepts?.(signal) ?? Promise.resolve()
      return { dispatcher, exited, accepts, stop: (grace) => running.stop(grace), ...of(spec.id) }
    },
    ...more,
  }
}

/** For each instance, a way to say that it leaves. */
function leaving() {
  const byId = new Map<string, (reason: string) => void>()
  const of = (id: string): Said => ({ leaving: new Promise((tell) => byId.set(id, tell)) })
  return { of, leave: (id: string, reason: string) => byId.get(id)?.(reason) }
}

test('leaving: it drains, its request ends on it, and another one takes its place', async () => {
  const { provider, held, holds } = createHoldingProvider()
  const { of, leave } = leaving()
  const events = recordEvents(session, 'instance')
  session.startup({ url, provider: saying(provider, of) })
  await waitForReady(session, url, 1)
  const answer = session.client().get(`${url}/slow`)
  await holds(1)
  const first = held[0]?.instance ?? ''
  leave(first, 'its time is nearly over')
  await waitUntil(
    () => countStates(session, url).ready === 1 && countStates(session, url).draining === 1,
  )
  // What comes now goes to the new one.
  const later = session.client().get(`${url}/later`)
  await holds(2)
  expect(held[1]?.instance).not.toBe(first)
  held[0]?.answer()
  expect(await (await answer).text()).toBe('slow')
  await waitUntil(() => !session.cluster(url).instances.some(({ id }) => id === first))
  held[0]?.answer()
  expect((await later).status).toBe(200)
  const told = events.filter(({ instance }) => instance === first)
  expect(told.map(({ state }) => state)).toEqual([
    'pending',
    'starting',
    'ready',
    'draining',
    'stopped',
  ])
  expect(told.find(({ state }) => state === 'draining')?.reason).toBe('its time is nearly over')
})

test('leaving: no request is lost while all of them go, one after the other', async () => {
  const { provider } = createHoldingProvider()
  const { of, leave } = leaving()
  session.startup({ url, provider: saying(provider, of), initSize: 3, concurrency: 2 })
  await waitForReady(session, url, 3)
  const client = session.client()
  const all = session.cluster(url).instances.map(({ id }) => id)
  const answers: Promise<string>[] = []
  for (const id of all) {
    for (let i = 0; i < 10; i++) {
      answers.push(client.get(`${url}/now${i}`).then((response) => response.text()))
    }
    leave(id, 'away')
    await runEventLoop(2)
  }
  expect(await Promise.all(answers)).toHaveLength(30)
  await waitUntil(() => session.cluster(url).instances.every(({ id }) => !all.includes(id)))
  await waitForReady(session, url, 3)
})

test('leaving: said while it starts, it does not become ready; another one does', async () => {
  const { provider } = createHoldingProvider()
  const mayAccept = createLatch()
  let count = 0
  const slow = saying(provider, () =>
    ++count === 1 ? { leaving: Promise.resolve('already gone') } : {},
  )
  const { start } = slow
  slow.start = async (spec, options) => {
    const running = await start(spec, options)
    // The first one does not accept before it is told to.
    return count === 1 ? { ...running, accepts: () => mayAccept.promise } : running
  }
  const events = recordEvents(session, 'instance')
  session.startup({ url, provider: slow })
  await waitForReady(session, url, 1)
  mayAccept.open()
  const [first] = events
  const told = (): string[] =>
    events.filter(({ instance }) => instance === first?.instance).map(({ state }) => state)
  await waitUntil(() => told().includes('stopped'))
  expect(told()).toEqual(['pending', 'starting', 'draining', 'stopped'])
  expect(session.cluster(url).instances.map(({ id }) => id)).not.toContain(first?.instance)
})

test('leaving: one that has ended says no more', async () => {
  const { provider } = createHoldingProvider()
  const { of, leave } = leaving()
  session.startup({ url, provider: saying(provider, of) })
  await waitForReady(session, url, 1)
  const [instance] = session.cluster(url).instances
  const stopped = nextEvent(session, 'instance', ({ state }) => state === 'stopped')
  session.setSize(url, 0)
  await stopped
  const events = recordEvents(session, 'instance')
  leave(instance?.id ?? '', 'too late')
  await runEventLoop()
  expect(events).toEqual([])
})

test.each([
  ['more', 1, 3],
  ['fewer', 5, 2],
])(
  'slots: it takes so many requests at a time, %s than the service says',
  async (_, concurrency, slots) => {
    const { provider, held, holds } = createHoldingProvider()
    // Its connections are as many as it has slots.
    const roomy: Provider = saying(
      {
        ...provider,
        capabilities: provider.capabilities,
        start: (spec, options) => provider.start({ ...spec, concurrency: slots }, options),
      },
      () => ({ slots: slots }),
    )
    session.startup({ url, provider: roomy, concurrency })
    await waitForReady(session, url, 1)
    const answers = [1, 2, 3, 4, 5].map((n) => session.client().get(`${url}/${n}`))
    await holds(slots)
    await runEventLoop()
    expect(held).toHaveLength(slots)
    expect(session.cluster(url).requestQueue.size).toBe(5 - slots)
    for (let answered = 0; answered < 5; answered++) {
      await waitUntil(() => held.length > 0)
      held[0]?.answer()
    }
    await Promise.all(answers)
  },
)

test('available: no start is tried beyond it, and what it gains is used', async () => {
  const { provider } = createHoldingProvider()
  let [available, asked, starts] = [1, 0, 0]
  const count = (): Said => {
    starts++
    return {}
  }
  const counted = saying(provider, count, {
    available: () => {
      asked++
      return available
    },
  })
  /** The loop has looked again: however many turns there are until its tick. */
  const looks = async (): Promise<void> => {
    const before = asked
    await waitUntil(() => asked > before + 1)
  }
  session.startup({ url, provider: counted, initSize: 3 })
  await waitForReady(session, url, 1)
  await looks()
  expect([starts, session.cluster(url).instances.length]).toEqual([1, 1])
  available = 3
  await waitForReady(session, url, 3)
  // What it loses is told by the end of instances, not by stopping those that are there.
  available = 1
  await looks()
  expect([starts, countStates(session, url).ready]).toEqual([3, 3])
})

test('available: one that has died is not replaced where there is no place for it', async () => {
  const holder = createHoldingProvider()
  let available = 2
  const events = recordEvents(session, 'instance')
  const provider = saying(holder.provider, () => ({}), { available: () => available })
  session.startup({ url, provider, initSize: 2 })
  await waitForReady(session, url, 2)
  available = 1
  const failed = nextEvent(session, 'instance', ({ state }) => state === 'failed')
  holder.kill()
  await failed
  await waitUntil(() => session.cluster(url).instances.length === 1)
  await runEventLoop()
  expect(countStates(session, url)).toEqual({ ready: 1 })
  expect(events.filter(({ state }) => state === 'pending')).toHaveLength(2)
  available = 2
  await waitForReady(session, url, 2)
})

test('available: asked of each service by its name', async () => {
  const { provider } = createHoldingProvider()
  const asked = new Set<string>()
  const available = (service: string): number => {
    asked.add(service)
    return service === url ? 2 : 0
  }
  const shared = saying(provider, () => ({}), { available })
  session.startup({ url, provider: shared, initSize: 5 })
  session.startup({ url: 'http://other', provider: shared, initSize: 5 })
  await waitForReady(session, url, 2)
  await runEventLoop()
  expect(session.cluster('http://other').instances).toEqual([])
  expect([...asked].sort()).toEqual([url, 'http://other'])
})

/** Its slots come by themselves: `come` is what a machine does that dials in. */
function growing(inner: Provider) {
  let available = 0
  const listeners = new Set<() => void>()
  const provider = saying(inner, () => ({}), {
    available: () => available,
    onAvailable: (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
  })
  const come = (): void => {
    available++
    for (const listener of listeners) listener()
  }
  return { provider, come, listeners }
}

test('onAvailable: a machine that comes serves who waits at once, without a tick', async () => {
  const { provider, come, listeners } = growing(createHoldingProvider().provider)
  const quiet = new Session({ tickInterval: NEVER })
  quiet.startup({ url, provider })
  const answer = quiet.client().get(`${url}/now`)
  await runEventLoop()
  expect(quiet.cluster(url).instances).toEqual([])
  come()
  expect((await answer).status).toBe(200)
  await quiet.close()
  expect(listeners.size).toBe(0)
})

test('onAvailable: what failed before need not wait any longer', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
  onTestFinished(() => void vi.useRealTimers())
  const { provider, come } = growing(createHoldingProvider({ failStarts: 3 }).provider)
  const quiet = new Session({ tickInterval: NEVER })
  const failures = recordEvents(quiet, 'error')
  quiet.startup({ url, provider })
  for (const count of [1, 2, 3]) {
    come()
    await runEventLoop()
    expect(failures).toHaveLength(count)
  }
  come()
  await runEventLoop()
  expect(countStates(quiet, url)).toEqual({ ready: 1 })
  vi.useRealTimers()
  await quiet.close({ force: true })
})

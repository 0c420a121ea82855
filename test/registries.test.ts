/** Registries of prom-client that are shared: by sessions, feeds, task servers, providers; and by the user's own metrics. */
import { Counter, Registry } from 'prom-client'
import { describe, expect, onTestFinished, test } from 'vitest'
import { agents } from '../providers/agent/index.ts'
import { GolemCosts } from '../providers/golem/costs.ts'
import { workers } from '../providers/pull/index.ts'
import { inProcess } from '../providers/testing/index.ts'
import { Feed } from '../src/feed/index.ts'
import { Session } from '../src/index.ts'
import { registerTaskMetrics } from '../src/tasks/server/metrics.ts'
import { catchThrown } from './help.ts'

const handler = inProcess(() => new Response('ok'))

/** A session whose service `http://calc` has answered so many requests. */
async function served(registry: Registry, requests: number): Promise<Session> {
  const session = new Session({ provider: inProcess(() => new Response('ok')), registry })
  onTestFinished(() => session.close({ force: true }))
  session.startup({ url: 'http://calc' })
  const client = session.client()
  for (let i = 0; i < requests; i++) await (await client.get('http://calc/')).text()
  return session
}

/** Lines of one metric, without the time that requests took. */
async function lines(registry: Registry, name: string): Promise<string[]> {
  const text = await registry.metrics()
  return text.split('\n').filter((line) => line.startsWith(`${name}{`))
}

const COUNTED = 'manyhost_requests_total'
const label = 'service="http://calc",method="GET",code="200",outcome="answered"'

test('the series of two sessions with one URL are told apart, counters and histograms', async () => {
  const registry = new Registry()
  const first = await served(registry, 1)
  const second = await served(registry, 2)
  expect(await lines(registry, COUNTED)).toEqual([
    `${COUNTED}{${label}} 1`,
    `${COUNTED}{${label},session="2"} 2`,
  ])
  const count = 'manyhost_request_duration_seconds_count'
  expect(await lines(registry, count)).toEqual([
    `${count}{service="http://calc"} 1`,
    `${count}{service="http://calc",session="2"} 2`,
  ])
  // Each goes with its session; what is left keeps its labels.
  await first.close()
  expect(await lines(registry, COUNTED)).toEqual([`${COUNTED}{${label},session="2"} 2`])
  const third = await served(registry, 3)
  expect(await lines(registry, COUNTED)).toEqual([
    `${COUNTED}{${label},session="2"} 2`,
    `${COUNTED}{${label}} 3`,
  ])
  await Promise.all([second.close(), third.close()])
  expect(registry.getMetricsAsArray()).toEqual([])
})

/** Everything that registers metrics, and how it gives them back. */
const OWNERS: Record<string, (registry: Registry) => () => unknown> = {
  session: (registry) => {
    const session = new Session({ provider: handler, registry })
    return () => session.close()
  },
  'session with a feed of its own': (registry) => {
    const session = new Session({ provider: handler, registry, feed: {} })
    return () => session.close()
  },
  'session that is ended by force': (registry) => {
    const session = new Session({ provider: handler, registry })
    return () => session.close({ force: true })
  },
  feed: (registry) => {
    const feed = new Feed({ registry })
    return () => feed.close()
  },
  tasks: (registry) => {
    const counts = { succeeded: 0, failed: 0, cancelled: 0, retried: 0, refused: 0 }
    return registerTaskMetrics(registry, { counts, progress: undefined, claimedCount: 0 } as never)
  },
  pull: (registry) => {
    const provider = workers({ registry })
    return () => provider.close?.()
  },
  agents: (registry) => {
    const provider = agents({ registry, key: 'k'.repeat(32) } as never)
    return () => provider.close?.()
  },
  golem: (registry) => {
    const costs = new GolemCosts(1, registry, { numRented: () => 0, numAvoided: () => 0 })
    return () => costs.close()
  },
}

for (const [name, open] of Object.entries(OWNERS)) {
  describe(name, () => {
    test('twice on one registry at a time, and again after an end', async () => {
      const registry = new Registry()
      const names = (): string[] =>
        registry.getMetricsAsArray().map((metric) => (metric as unknown as { name: string }).name)
      for (let round = 0; round < 2; round++) {
        const first = open(registry)
        const all = names()
        expect(all.length).toBeGreaterThan(2)
        const second = open(registry)
        expect(names()).toEqual(all)
        await registry.metrics()
        await first()
        expect(names().toSorted()).toEqual(all.toSorted())
        await second()
        expect(names()).toEqual([])
      }
    })

    test("a registry with somebody else's metric of a name is refused, and nothing is left in it", () => {
      const scratch = new Registry()
      open(scratch)
      const taken = scratch.getMetricsAsArray().at(-1) as unknown as { name: string }
      const registry = new Registry()
      new Counter({ name: taken.name, help: 'mine', registers: [registry] })
      const error = catchThrown(() => open(registry))
      expect(error).toMatchObject({ code: 'MANYHOST_INVALID_OPTION' })
      expect(error.message).toContain(taken.name)
      expect(registry.getMetricsAsArray()).toHaveLength(1)
    })
  })
}

test('a registry that was cleared takes the next session', async () => {
  const registry = new Registry()
  const first = await served(registry, 1)
  registry.clear()
  const second = await served(registry, 1)
  expect(await lines(registry, COUNTED)).toEqual([`${COUNTED}{${label},session="2"} 1`])
  await Promise.all([first.close(), second.close()])
  expect(registry.getMetricsAsArray()).toEqual([])
})

test('a session with an option that is none leaves nothing in the registry', () => {
  const registry = new Registry()
  const wrong = { registry, feed: { name: 3 }, provider: handler } as never
  expect(catchThrown(() => new Session(wrong)).code).toBe('MANYHOST_INVALID_OPTION')
  expect(catchThrown(() => new Session({ registry, tickInterval: -1 })).code).toBe(
    'MANYHOST_INVALID_OPTION',
  )
  expect(registry.getMetricsAsArray()).toEqual([])
})

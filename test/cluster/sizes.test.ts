/** Sizes end to end: from what is set to the instances that are there. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  type Cluster,
  IdleToZero,
  idleToZero,
  QueueLength,
  Session,
  SimpleLoadBalancer,
  type SizeSpec,
  TargetInFlight,
} from '../../src/index.ts'
import {
  catchThrown,
  countStates,
  createHoldingProvider,
  NEVER,
  recordEvents,
  runEventLoop,
  waitForReady,
  waitUntil,
} from '../help.ts'

const url = 'http://calc'
let session: Session
let service: ReturnType<typeof createHoldingProvider>
beforeEach(() => {
  session = new Session({ tickInterval: 3 })
  service = createHoldingProvider()
})
afterEach(() => session.close({ force: true }))

function startup(options = {}): Cluster {
  return session.startup({ url, provider: service.provider, initSize: 0, ...options })
}

async function becomes(size: SizeSpec<Cluster>, count: number): Promise<void> {
  session.setSize(url, size)
  await waitUntil(() => session.cluster(url).size === count, `the size is ${count}`)
  await waitForReady(session, url, count)
  await waitUntil(() => session.cluster(url).instances.length === count)
}

describe('what a size may be', () => {
  const wanted = 2
  class Balancer {
    valueOf = () => wanted
  }
  test.each<[string, SizeSpec<Cluster>]>([
    ['a number', wanted],
    ['a function that answers with a fraction', () => 2.9],
    ['an object of a fraction', { valueOf: () => 2.9 }],
    ['a bigint', 2n],
    ['a function', () => wanted],
    ['an async function', async () => wanted],
    ['a function that answers with an object', () => new Balancer()],
    ['a class', Balancer],
    ['an object with valueOf', { valueOf: () => wanted }],
    ['an object with Symbol.toPrimitive', { [Symbol.toPrimitive]: () => wanted }],
  ])('%s', async (_, size) => {
    startup()
    await becomes(size, 2)
  })

  test.each([
    [-1, '-1'],
    [2.5, '2.5'],
    [Number.NaN, 'NaN'],
    [Number.POSITIVE_INFINITY, 'Infinity'],
    ['3', '"3"'],
    [null, 'null'],
    [undefined, 'undefined'],
    [{}, '{}'],
    [function* () {}, 'function'],
  ])('not %s: refused where it is set, with what was got', async (size, got) => {
    const cluster = startup({ initSize: 1 })
    const error = catchThrown(() => session.setSize(url, size as number))
    expect(error).toMatchObject({ code: 'MANYHOST_INVALID_SIZE', status: 400 })
    expect(error.message).toContain('a whole number from 0 up')
    expect(error.message).toContain(got)
    expect(cluster.size).toBe(1)
  })
})

describe('a size that fails', () => {
  test.each<[string, () => unknown, RegExp]>([
    [
      'throws',
      () => {
        throw new Error('no idea')
      },
      /no idea/,
    ],
    ['is NaN', () => Number.NaN, /NaN/],
    ['is infinite', () => Number.POSITIVE_INFINITY, /Infinity/],
    ['is text', () => 'many', /many/],
    ['rejects', () => Promise.reject(new Error('no answer')), /no answer/],
  ])(
    'that %s keeps the last good one, is reported once, and stops nothing',
    async (_, bad, text) => {
      startup()
      await becomes(1, 1)
      const errors = recordEvents(session, 'error')
      let asked = 0
      const counted = (): unknown => {
        asked++
        return bad()
      }
      session.setSize(url, counted as never)
      await waitUntil(() => asked > 5)
      expect(errors.map(({ code }) => code)).toEqual(['MANYHOST_SIZE_FAILED'])
      expect(errors[0]?.message).toMatch(text)
      expect(errors[0]?.message).toContain(`the size of ${url} stays 1`)
      expect(countStates(session, url)).toEqual({ ready: 1 })
      expect((await session.client().get(`${url}/now`)).status).toBe(200)
    },
  )

  test('that never answers is asked once, and another one may be set', async () => {
    startup()
    await becomes(1, 1)
    let asked = 0
    session.setSize(url, () => {
      asked++
      return new Promise<never>(() => undefined)
    })
    let ticks = 0
    await waitUntil(() => ++ticks > 20)
    expect([asked, countStates(session, url)]).toEqual([1, { ready: 1 }])
    await becomes(2, 2)
  })

  test('that is negative is none, that is too large is maxSize, that is too small minSize', async () => {
    startup({ initSize: 1, maxSize: 3 })
    await becomes(() => -5, 0)
    await becomes(() => 1e12, 3)
    session.startup({ url: 'http://least', provider: service.provider, minSize: 2, initSize: 0 })
    await waitForReady(session, 'http://least', 2)
    session.setSize('http://least', 0)
    await runEventLoop()
    expect(countStates(session, 'http://least')).toEqual({ ready: 2 })
  })
})

describe('going up and down', () => {
  test('0 -> 5 -> 0 -> 2, and every change is an event', async () => {
    const changes = recordEvents(session, 'cluster')
    startup()
    for (const size of [5, 0, 2]) await becomes(size, size)
    expect(changes.map(({ change, size }) => `${change} ${size}`)).toEqual([
      'added 0',
      'resized 5',
      'resized 0',
      'resized 2',
    ])
  })

  test('a function is asked at each tick', async () => {
    startup()
    let wanted = 1
    await becomes(() => wanted, 1)
    for (wanted of [4, 2, 0]) await waitForReady(session, url, wanted)
  })

  test('from 0, a request that waits is seen at once, without a tick', async () => {
    const quiet = new Session({ tickInterval: NEVER, provider: service.provider })
    quiet.startup({ url, initSize: 0 })
    quiet.setSize(url, (cluster) => (cluster.requestQueue.isEmpty ? 0 : 1))
    await runEventLoop()
    const res = await quiet.client().get(`${url}/now`)
    expect(res.status).toBe(200)
    await quiet.close()
  })
})

describe('load balancers', () => {
  test('QueueLength: as many as there is work for, and none without', async () => {
    startup({ maxSize: 4 })
    session.setSize(url, QueueLength)
    const answers = Array.from({ length: 6 }, (_, i) => session.client().get(`${url}/${i}`))
    await service.holds(4)
    expect(session.cluster(url).size).toBe(4)
    while (service.held.length > 0) {
      service.held[0]?.answer()
      await runEventLoop(5)
    }
    await Promise.all(answers)
    await waitUntil(() => session.cluster(url).instances.length === 0)
  })

  test('QueueLength with settings', async () => {
    startup()
    session.setSize(url, (cluster) => new QueueLength(cluster, { perInstance: 3 }))
    const answers = Array.from({ length: 6 }, (_, i) => session.client().get(`${url}/${i}`))
    await waitUntil(() => session.cluster(url).size === 2)
    while (session.cluster(url).stats().completions < 6) {
      service.held[0]?.answer()
      await runEventLoop(5)
    }
    await Promise.all(answers)
  })

  test('SimpleLoadBalancer begins with 3', async () => {
    startup()
    await becomes(SimpleLoadBalancer, 3)
  })

  test('TargetInFlight: a burst starts what it needs', async () => {
    startup({ maxSize: 6 })
    session.setSize(
      url,
      (cluster) => new TargetInFlight(cluster, { target: 1, stableWindow: 1_000, panicWindow: 10 }),
    )
    const answers = Array.from({ length: 6 }, (_, i) => session.client().get(`${url}/${i}`))
    await service.holds(6)
    for (const one of [...service.held]) one.answer()
    await Promise.all(answers)
  })

  test.each([
    ['IdleToZero', (cluster: Cluster) => new IdleToZero(cluster, { active: 2, idleAfter: 30 })],
    ['idleToZero', idleToZero(() => 2, { idleAfter: 30 })],
  ])('%s: none after a while without work, and back with the first request', async (_, size) => {
    startup({ initSize: 2 })
    session.setSize(url, size as SizeSpec<Cluster>)
    await waitUntil(() => session.cluster(url).instances.length === 0)
    const answer = session.client().get(`${url}/first`)
    await service.holds(1)
    await waitForReady(session, url, 2)
    service.held[0]?.answer()
    expect((await answer).status).toBe(200)
    await waitUntil(() => session.cluster(url).instances.length === 0)
  })
})

describe('a budget', () => {
  test('is never exceeded, and the idlest service gives way', async () => {
    const budget = 5
    const shared = new Session({
      tickInterval: 3,
      provider: service.provider,
      budget: { instances: budget },
    })
    const names = ['http://a', 'http://b', 'http://c']
    let most = 0
    shared.on('instance', () => {
      const all = shared.clusters.reduce((sum, { instances }) => sum + instances.length, 0)
      most = Math.max(most, all, service.provider.instances.length)
    })
    for (const name of names) shared.startup({ url: name, initSize: 4 })
    await waitUntil(() => service.provider.instances.length === budget)
    const client = shared.client()
    // Whoever has the work gets the instances, whoever had them before.
    for (const name of [...names, ...names]) {
      const answers = [1, 2, 3, 4].map((n) => client.get(`${name}/${n}`))
      await service.holds(4)
      expect(countStates(shared, name)).toMatchObject({ ready: 4 })
      for (const one of [...service.held]) one.answer()
      await Promise.all(answers)
    }
    // Up and down in the same turn, with what drains still there.
    for (let round = 0; round < 20; round++) {
      for (const name of names) shared.setSize(name, (round * 7 + name.length) % 6)
      await runEventLoop(round % 4)
    }
    expect(most).toBe(budget)
    await shared.close()
  })

  test('an instance that becomes free by the end of a request goes to who waits', async () => {
    const shared = new Session({
      tickInterval: 3,
      provider: service.provider,
      budget: { instances: 2 },
    })
    for (const name of ['http://a', 'http://b']) shared.startup({ url: name, initSize: 2 })
    const client = shared.client()
    const a = client.get('http://a/a')
    const b = [1, 2, 3].map((n) => client.get(`http://b/${n}`))
    await waitUntil(() => service.held.length === 2)
    service.held.find(({ name }) => name === 'a')?.answer()
    await a
    // Service a is idle now, and nothing but that tells service b so.
    await waitUntil(() => service.held.length === 2)
    expect(service.held.map(({ name }) => name)).not.toContain('a')
    while (shared.cluster('http://b').stats().completions < 3) {
      service.held[0]?.answer()
      await runEventLoop(5)
    }
    await Promise.all(b)
    await shared.close()
  })

  test('counts what takes over and what gives way', async () => {
    const { provider } = service
    const shared = new Session({ tickInterval: 3, provider, budget: { instances: 4 } })
    shared.startup({ url, initSize: 3 })
    await waitForReady(shared, url, 3)
    let most = 0
    shared.on('instance', () => {
      most = Math.max(most, provider.instances.length)
    })
    await shared.update({ url, initSize: 3, concurrency: 2 })
    await waitForReady(shared, url, 3)
    expect(most).toBeLessThanOrEqual(4)
    expect(shared.cluster(url).concurrency).toBe(2)
    await shared.close()
  })

  test('is refused where it makes no sense', () => {
    const error = catchThrown(() => new Session({ budget: { instances: 0 } }))
    expect(error.message).toContain('budget must be { instances: a whole number from 1 up }')
  })
})

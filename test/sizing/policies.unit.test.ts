import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import {
  IdleToZero,
  instancesFor,
  nextSimpleState,
  QueueLength,
  SimpleLoadBalancer,
  type SimpleLoadBalancerState,
} from '../../src/sizing/policies.ts'
import { toSize } from '../../src/sizing/size.ts'
import { idleToZero } from '../../src/sizing/wrappers.ts'
import fc from '../properties.ts'
import { FakeCluster } from './fake-cluster.ts'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

const seconds = (n: number) => vi.advanceTimersByTime(n * 1_000)

describe('every balancer', () => {
  it('is constructed by setSize and read as a number', () => {
    for (const Balancer of [SimpleLoadBalancer, QueueLength, IdleToZero]) {
      const cluster = new FakeCluster()
      const balancer = new Balancer(cluster)
      expect(toSize(Balancer, cluster).read()).toBe(+balancer)
      expect(toSize((c) => new Balancer(c), cluster).read()).toBe(+balancer)
    }
  })
})

describe('SimpleLoadBalancer', () => {
  it('follows the rule of its ancestor', () => {
    const cluster = new FakeCluster()
    const balancer = new SimpleLoadBalancer(cluster)
    const read = (queued: number) => {
      cluster.queued = queued
      return Number(balancer)
    }
    const later = (queued: number) => {
      vi.advanceTimersByTime(10_001)
      return read(queued)
    }
    expect(read(4)).toBe(3)
    seconds(10)
    expect(read(9)).toBe(3) // not more than the interval
    expect(later(5)).toBe(4) // grew since the first reading
    expect(later(5)).toBe(4)
    expect(later(6)).toBe(5)
    expect(later(7)).toBe(5) // the most
    expect(later(0)).toBe(5) // empty once
    expect(later(0)).toBe(1) // empty twice
    expect(later(1)).toBe(2)
  })

  it('stays between 1 and max, changes at most once an interval, and grows by one', () => {
    const settings = { max: 7, interval: 1_000, initial: 3 }
    const reads = fc.array(fc.record({ wait: fc.nat(3_000), queued: fc.nat(5) }))
    fc.assert(
      fc.property(reads, (list) => {
        let at = 0
        let changed = Number.NEGATIVE_INFINITY
        let last: SimpleLoadBalancerState | undefined
        for (const { wait, queued } of list) {
          at += wait
          const next = nextSimpleState(queued, at, last, settings)
          expect(next.size).toBeGreaterThanOrEqual(1)
          expect(next.size).toBeLessThanOrEqual(7)
          if (last && next.size !== last.size) {
            expect(next.size === last.size + 1 || next.size === 1).toBe(true)
            expect(at - changed).toBeGreaterThan(1_000)
            changed = at
          }
          last = next
        }
      }),
    )
  })

  it('holds its initial size to max', () => {
    expect(+new SimpleLoadBalancer(new FakeCluster(), { max: 2 })).toBe(2)
  })
})

describe('QueueLength', () => {
  it('wants an instance for each so many requests, waiting or in flight', () => {
    const cluster = new FakeCluster()
    cluster.concurrency = 4
    const balancer = new QueueLength(cluster)
    const ofThree = new QueueLength(cluster, { perInstance: 3 })
    expect([+balancer, +ofThree]).toEqual([0, 0])
    cluster.queued = 7
    cluster.inFlight = 2
    expect([+balancer, +ofThree]).toEqual([3, 3])
    cluster.queued = 8
    expect([+balancer, +ofThree]).toEqual([3, 4])
  })

  it('goes down only when nothing more was wanted for scaleDownDelay', () => {
    const cluster = new FakeCluster()
    const balancer = new QueueLength(cluster, { scaleDownDelay: 30_000 })
    cluster.queued = 5
    expect(+balancer).toBe(5)
    cluster.queued = 2
    seconds(15)
    expect(+balancer).toBe(5)
    cluster.queued = 0
    seconds(15)
    expect(+balancer).toBe(2)
    seconds(15)
    expect(+balancer).toBe(0)
  })

  it('never wants more instances than requests, nor leaves one without a place', () => {
    fc.assert(
      fc.property(fc.nat(100_000), fc.integer({ min: 1, max: 500 }), (requests, places) => {
        const size = instancesFor(requests, places)
        expect(size * places).toBeGreaterThanOrEqual(requests)
        expect((size - 1) * places).toBeLessThan(Math.max(1, requests))
      }),
    )
  })

  it('is not misled by the error of floating-point numbers', () => {
    expect(instancesFor(21, 0.7 * 3)).toBe(10)
    expect(instancesFor(0, 1)).toBe(0)
    expect(instancesFor(0.01, 1)).toBe(1)
  })
})

describe('IdleToZero', () => {
  it('goes 0 -> n -> 0 with the work', () => {
    const cluster = new FakeCluster()
    cluster.size = 3
    const balancer = new IdleToZero(cluster)
    expect(+balancer).toBe(3)
    seconds(60)
    expect(+balancer).toBe(0)
    cluster.size = 0
    cluster.queued = 1
    expect(+balancer).toBe(3)
    cluster.queued = 0
    cluster.inFlight = 1
    seconds(3_600)
    expect(+balancer).toBe(3)
    cluster.inFlight = 0
    seconds(59)
    expect(+balancer).toBe(3)
    seconds(1)
    expect(+balancer).toBe(0)
  })

  it('is 1 while active where the cluster had size 0, or what it is told', () => {
    const cluster = new FakeCluster()
    expect(+new IdleToZero(cluster)).toBe(1)
    expect(+new IdleToZero(cluster, { active: 4 })).toBe(4)
  })

  it('may be put around another size', () => {
    const cluster = new FakeCluster()
    const size = toSize(idleToZero(5, { idleAfter: 10_000 }), cluster)
    expect(size.read()).toBe(5)
    seconds(10)
    expect(size.read()).toBe(0)
    cluster.queued = 1
    expect(size.read()).toBe(5)
  })
})

describe('settings that are wrong', () => {
  const cluster = new FakeCluster()
  it.each<[string, () => unknown]>([
    ['SimpleLoadBalancer: max must', () => new SimpleLoadBalancer(cluster, { max: 0 })],
    ['max must be a whole number', () => new SimpleLoadBalancer(cluster, { max: 1.5 })],
    ['interval must', () => new SimpleLoadBalancer(cluster, { interval: -1 })],
    ['initial must', () => new SimpleLoadBalancer(cluster, { initial: -1 })],
    ['QueueLength: perInstance must', () => new QueueLength(cluster, { perInstance: 0 })],
    ['scaleDownDelay must', () => new QueueLength(cluster, { scaleDownDelay: Number.NaN })],
    ["unknown setting 'per'", () => new QueueLength(cluster, { per: 1 } as object)],
    ['IdleToZero: active must', () => new IdleToZero(cluster, { active: 0 })],
    ['idleAfter must', () => new IdleToZero(cluster, { idleAfter: '60s' as never })],
  ])('%s', (message, act) => {
    expect(act).toThrow(
      expect.objectContaining({
        code: 'MANYHOST_INVALID_OPTION',
        message: expect.stringContaining(message),
      }),
    )
  })
})

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { QueueLength } from '../../src/sizing/policies.ts'
import { toSize } from '../../src/sizing/size.ts'
import { bounds, idleToZero, scaleDownDelay, step } from '../../src/sizing/wrappers.ts'
import fc from '../properties.ts'
import { FakeCluster } from './fake-cluster.ts'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

/** A size that gives these numbers, one a read. */
function playing(...numbers: number[]): () => number {
  return () => numbers.shift() as number
}

const sizes = fc.array(fc.nat(50), { minLength: 1, maxLength: 40 })

describe('bounds', () => {
  it('holds every size between min and max', () => {
    fc.assert(
      fc.property(fc.integer(), fc.nat(20), fc.nat(20), (wanted, min, more) => {
        const max = min + more
        const size = bounds(() => wanted, { min, max })(new FakeCluster())
        expect(size).toBe(Math.min(max, Math.max(min, wanted)))
      }),
    )
  })

  it('takes every kind of size, async ones too', async () => {
    const cluster = new FakeCluster()
    cluster.queued = 30
    expect(bounds(QueueLength, { max: 8 })(cluster)).toBe(8)
    expect(bounds(3, { min: 5 })(cluster)).toBe(5)
    await expect(bounds(async () => 30, { max: 8 })(cluster)).resolves.toBe(8)
    expect(toSize(bounds({ valueOf: () => 30 }, { max: 8 }), cluster).read()).toBe(8)
  })
})

describe('scaleDownDelay', () => {
  it('is the largest size of the window, at every read', () => {
    fc.assert(
      fc.property(sizes, fc.array(fc.nat(4_000), { minLength: 40 }), (wanted, steps) => {
        const size = scaleDownDelay(playing(...wanted), 10_000)
        const cluster = new FakeCluster()
        const past: { at: number; n: number }[] = []
        for (const [i, n] of wanted.entries()) {
          vi.advanceTimersByTime(steps[i] ?? 0)
          const at = performance.now()
          past.push({ at, n })
          const window = past.filter((read) => read.at > at - 10_000 || read.at === at)
          expect(size(cluster)).toBe(Math.max(...window.map((read) => read.n)))
        }
      }),
    )
  })

  it('falls to zero once the window has passed', () => {
    const size = scaleDownDelay(playing(3, 0, 0, 0), 1_000)
    const cluster = new FakeCluster()
    const read = () => size(cluster)
    expect(read()).toBe(3)
    vi.advanceTimersByTime(999)
    expect(read()).toBe(3)
    vi.advanceTimersByTime(1)
    expect(read()).toBe(0)
  })

  it('remembers each cluster by itself', () => {
    const [calc, other] = [new FakeCluster(), new FakeCluster()]
    calc.queued = 5
    const size = scaleDownDelay(QueueLength, 10_000)
    expect([size(calc), size(other)]).toEqual([5, 0])
    calc.queued = 0
    expect([size(calc), size(other)]).toEqual([5, 0])
  })
})

describe('step', () => {
  it('moves at most so many instances a read, from the size of the cluster', () => {
    const cluster = new FakeCluster()
    cluster.size = 4
    const size = step(playing(10, 10, 10, 10, 0, 0), { up: 2, down: 3 })
    expect(Array.from({ length: 6 }, () => size(cluster))).toEqual([6, 8, 10, 10, 7, 4])
  })

  it('reaches what is wanted, and never passes it', () => {
    fc.assert(
      fc.property(fc.nat(50), fc.nat(50), fc.integer({ min: 1, max: 9 }), (from, to, n) => {
        const cluster = new FakeCluster()
        cluster.size = from
        const size = step(to, { up: n, down: n })
        let last = from
        for (let i = 0; i < Math.ceil(Math.abs(to - from) / n); i++) {
          const next = size(cluster) as number
          expect(Math.abs(next - last)).toBeLessThanOrEqual(n)
          expect(Math.abs(to - next)).toBeLessThan(Math.abs(to - last))
          last = next
        }
        expect(size(cluster)).toBe(to)
      }),
    )
  })
})

describe('idleToZero', () => {
  it('is the size inside until there was no work for idleAfter, and at once when a request comes', () => {
    const cluster = new FakeCluster()
    const size = idleToZero(4, { idleAfter: 60_000 })
    expect(size(cluster)).toBe(4)
    vi.advanceTimersByTime(59_999)
    expect(size(cluster)).toBe(4)
    vi.advanceTimersByTime(1)
    expect(size(cluster)).toBe(0)
    cluster.queued = 1
    expect(size(cluster)).toBe(4)
    cluster.queued = 0
    vi.advanceTimersByTime(59_999)
    expect(size(cluster)).toBe(4)
    vi.advanceTimersByTime(1)
    expect(size(cluster)).toBe(0)
  })

  it('keeps one instance warm around a size that falls to 0 at once', () => {
    const cluster = new FakeCluster()
    cluster.inFlight = 5
    const size = idleToZero(QueueLength)
    expect(size(cluster)).toBe(5)
    cluster.inFlight = 0
    expect(size(cluster)).toBe(1)
    vi.advanceTimersByTime(60_000)
    expect(size(cluster)).toBe(0)
  })

  it('sees the work that came and went between two reads', () => {
    const cluster = new FakeCluster()
    const size = idleToZero(2, { idleAfter: 1_500 })
    for (let i = 0; i < 10; i++) {
      cluster.arrivals++
      expect(size(cluster)).toBe(2)
      vi.advanceTimersByTime(1_000)
    }
    vi.advanceTimersByTime(500)
    expect(size(cluster)).toBe(0)
  })
})

describe('what is wrong is refused when the size is wrapped', () => {
  it.each<[string, () => unknown]>([
    ["bounds: unknown setting 'mn'; known: min, max", () => bounds(1, { mn: 1 } as object)],
    ['bounds: min must be a whole number from 0', () => bounds(1, { min: -1 })],
    ['bounds: min must be a whole number', () => bounds(1, { min: 1.5 })],
    ['bounds: max must be a whole number from 0 up, got NaN', () => bounds(1, { max: Number.NaN })],
    ['got "8"', () => bounds(1, { max: '8' as never })],
    ['got null', () => bounds(1, { max: null as never })],
    ['min must not be above max, got min 3 and max 2', () => bounds(1, { min: 3, max: 2 })],
    ['settings must be an object', () => bounds(1, 3 as never)],
    ['settings must be an object', () => bounds(1, undefined as never)],
    ['scaleDownDelay: ms must be a number from 0 up', () => scaleDownDelay(1, -1)],
    ['got undefined', () => scaleDownDelay(1, undefined as never)],
    ['step: up must be a whole number from 1 up, got 0', () => step(1, { up: 0 })],
    ['step: down must be', () => step(1, { down: 0.5 })],
    ['idleToZero: idleAfter must be a number from 0 up', () => idleToZero(1, { idleAfter: -1 })],
  ])('%s', (message, act) => {
    expect(act).toThrow(
      expect.objectContaining({
        code: 'MANYHOST_INVALID_OPTION',
        message: expect.stringContaining(message),
      }),
    )
  })

  it('a size that cannot be one', () => {
    for (const wrong of [-1, '3', {}]) {
      const refused = expect.objectContaining({ code: 'MANYHOST_INVALID_SIZE' })
      expect(() => bounds(wrong as never, {})).toThrow(refused)
      expect(() => idleToZero(wrong as never)).toThrow(refused)
    }
  })

  it('but what a size does when it is read comes out of the read', () => {
    const cluster = new FakeCluster()
    expect(() => bounds(() => Number.NaN, {})(cluster)).toThrow(/got NaN/)
    expect(() => step(failing, {})(cluster)).toThrow('not today')
  })
})

function failing(): number {
  throw new Error('not today')
}

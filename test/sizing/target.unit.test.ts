import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import {
  nextTargetState,
  TargetInFlight,
  type TargetInFlightSettings,
  type TargetInFlightState,
} from '../../src/sizing/policies.ts'
import { toSize } from '../../src/sizing/size.ts'
import fc from '../properties.ts'
import { FakeCluster } from './fake-cluster.ts'

const settings: Required<TargetInFlightSettings> = {
  target: 7,
  stableWindow: 60_000,
  panicWindow: 6_000,
  panicThreshold: 2,
  maxScaleUpRate: 1_000,
  maxScaleDownRate: 2,
  scaleDownDelay: 0,
}

/** A cluster whose instances are ready as soon as they are wanted, read once a second. */
class Ticking {
  at = 0
  last: TargetInFlightState | undefined
  ready: number
  readonly #settings: typeof settings
  readonly #follows: boolean

  constructor(ready = 0, changed: Partial<typeof settings> = {}, follows = true) {
    this.ready = ready
    this.#settings = { ...settings, ...changed }
    this.#follows = follows
  }

  /** Sizes at each of so many ticks with this load. */
  ticks(count: number, load: number): number[] {
    return Array.from({ length: count }, () => {
      this.last = nextTargetState({ load, ready: this.ready }, this.at, this.last, this.#settings)
      this.at += 1_000
      if (this.#follows) this.ready = this.last.size
      return this.last.size
    })
  }
}

describe('the rule of TargetInFlight', () => {
  it('wants nothing while there is no load', () => {
    expect(new Ticking().ticks(100, 0)).toEqual(Array(100).fill(0))
  })

  it('wants from size 0 what the first requests need, at once', () => {
    const cluster = new Ticking()
    cluster.ticks(300, 0)
    expect(cluster.ticks(1, 70)).toEqual([10])
  })

  it('holds a constant load at the target without ever changing its mind', () => {
    const load = fc.integer({ min: 1, max: 500 })
    fc.assert(
      fc.property(load, fc.integer({ min: 1, max: 20 }), (requests, concurrency) => {
        const target = 0.7 * concurrency
        const sizes = new Ticking(0, { target }).ticks(200, requests)
        const wanted = Math.ceil(requests / target - 1e-6)
        expect(new Set(sizes)).toEqual(new Set([wanted]))
      }),
      { numRuns: 40 },
    )
  })

  it('goes 0 -> n -> 0 for every burst, and down by at most half a tick', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 900 }), fc.integer({ min: 1, max: 90 }), (load, n) => {
        const cluster = new Ticking()
        expect(cluster.ticks(3, 0)).toEqual([0, 0, 0])
        const up = cluster.ticks(n, load)
        expect(up[0]).toBe(Math.ceil(load / 7))
        const down = [up.at(-1) as number, ...cluster.ticks(140, 0)]
        for (let i = 1; i < down.length; i++) {
          const [before, now] = [down[i - 1] as number, down[i] as number]
          expect(now).toBeLessThanOrEqual(before)
          expect(now).toBeGreaterThanOrEqual(Math.floor(before / 2))
        }
        expect(down.at(-1)).toBe(0)
      }),
      { numRuns: 40 },
    )
  })

  it('panics at a burst: grows within seconds, and does not shrink for a stable window', () => {
    const cluster = new Ticking()
    cluster.ticks(120, 7) // one instance, at its target
    const burst = cluster.ticks(8, 70)
    expect(burst.at(-1)).toBe(10)
    // Seconds left of the stable window since the burst was seen last.
    const left = ((cluster.last?.panic?.at as number) + 60_000 - cluster.at) / 1_000
    expect(left).toBeGreaterThan(50)
    expect(new Set(cluster.ticks(left, 7))).toEqual(new Set([10]))
    expect(cluster.ticks(1, 7)).toEqual([5])
    expect(cluster.ticks(70, 7).at(-1)).toBe(1)
  })

  it('does not panic at slow growth, but follows the average of a minute', () => {
    const cluster = new Ticking()
    cluster.ticks(120, 70)
    const sizes = cluster.ticks(30, 105)
    expect(sizes[0]).toBe(10)
    expect(sizes.at(-1)).toBeLessThan(14)
    expect(cluster.last?.panic).toBeUndefined()
    expect(cluster.ticks(40, 105).at(-1)).toBe(15)
  })

  it('extends a panic for as long as the burst is confirmed', () => {
    const cluster = new Ticking(1, {}, false) // none of the new instances gets ready
    cluster.ticks(200, 70)
    expect(cluster.last).toMatchObject({ size: 10, panic: { at: 199_000 } })
  })

  it('keeps the instances that it takes over until it knows better', () => {
    const cluster = new Ticking(4)
    expect(new Set(cluster.ticks(60, 1))).toEqual(new Set([4]))
    expect(cluster.ticks(10, 1).at(-1)).toBe(1)
  })

  it('grows at most by maxScaleUpRate of the ready instances', () => {
    const sizes = new Ticking(1, { maxScaleUpRate: 2 }).ticks(6, 700)
    expect(sizes).toEqual([2, 4, 8, 16, 32, 64])
  })

  it('delays going down by scaleDownDelay', () => {
    const delayed = new Ticking(0, { scaleDownDelay: 30_000 })
    const plain = new Ticking()
    const fall = (cluster: Ticking) => {
      cluster.ticks(10, 7)
      return cluster.ticks(200, 0).indexOf(0)
    }
    // 30 s after the last tick that wanted the larger size, not after the first that wanted less.
    expect(fall(delayed) - fall(plain)).toBe(29)
  })

  it('always gives a whole finite number from 0 up', () => {
    const read = fc.record({ wait: fc.nat(90_000), load: fc.nat(1_000), ready: fc.nat(50) })
    fc.assert(
      fc.property(fc.array(read), (reads) => {
        let at = 0
        let last: TargetInFlightState | undefined
        for (const { wait, load, ready } of reads) {
          at += wait
          last = nextTargetState({ load, ready }, at, last, settings)
          expect(Number.isInteger(last.size) && last.size >= 0).toBe(true)
        }
      }),
    )
  })
})

describe('TargetInFlight', () => {
  beforeEach(() => {
    vi.useFakeTimers()
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  it('reads waiting and running requests, and counts the ready instances only', () => {
    const cluster = new FakeCluster().have(9, 'starting')
    cluster.concurrency = 10
    const size = toSize(TargetInFlight, cluster)
    expect(size.read()).toBe(0)
    cluster.queued = 20
    cluster.inFlight = 1
    vi.advanceTimersByTime(1_000)
    expect(size.read()).toBe(3)
    cluster.queued = 0
    cluster.inFlight = 0
    for (let i = 0; i < 140; i++) {
      vi.advanceTimersByTime(1_000)
      cluster.have(Number(size.read()))
    }
    expect(size.read()).toBe(0)
  })

  it.each<[string, TargetInFlightSettings]>([
    ['target must be a number from 0.01', { target: 0 }],
    ['stableWindow must', { stableWindow: 999 }],
    ['panicWindow must', { panicWindow: 0 }],
    ['a hundredth of stableWindow up to it', { panicWindow: 61_000 }],
    ['a hundredth of stableWindow up to it', { panicWindow: 599 }],
    ['panicThreshold must', { panicThreshold: 0.5 }],
    ['maxScaleUpRate must', { maxScaleUpRate: 1 }],
    ['maxScaleDownRate must', { maxScaleDownRate: 1 }],
    ['scaleDownDelay must', { scaleDownDelay: -1 }],
    ["unknown setting 'utilization'", { utilization: 1 } as object],
  ])('refuses settings: %s', (message, wrong) => {
    expect(() => new TargetInFlight(new FakeCluster(), wrong)).toThrow(
      expect.objectContaining({
        code: 'MANYHOST_INVALID_OPTION',
        message: expect.stringContaining(message),
      }),
    )
  })
})

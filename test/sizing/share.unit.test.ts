import { describe, expect, it } from 'vitest'
import { type InstanceDemand, shareInstances } from '../../src/sizing/share.ts'
import fc from '../properties.ts'

/** A demand in short: load, wanted, and the rest where it matters. */
function demand(load: number, wanted: number, more: Partial<InstanceDemand> = {}): InstanceDemand {
  return { load, wanted, minSize: 0, running: 0, idleSince: 0, ...more }
}

const demands = fc.array(
  fc.record({
    wanted: fc.nat(12),
    minSize: fc.nat(4),
    running: fc.nat(12),
    load: fc.oneof(fc.constant(0), fc.nat(100)),
    idleSince: fc.nat(1_000),
  }),
  { maxLength: 8 },
)
const budgets = fc.nat(50)
const total = (numbers: number[]) => numbers.reduce((sum, n) => sum + n, 0)
const busy = ({ load, wanted }: InstanceDemand) => load > 0 && wanted > 0
/** What is promised to a service: its min size, and one to a busy one. */
const floor = (d: InstanceDemand) => Math.min(d.wanted, Math.max(d.minSize, busy(d) ? 1 : 0))

function property(
  check: (budget: number, demands: InstanceDemand[], shares: number[]) => void,
): void {
  const run = (budget: number, asked: InstanceDemand[]) =>
    check(budget, asked, shareInstances(budget, asked))
  fc.assert(fc.property(budgets, demands, run), { numRuns: 1_000 })
}

describe('share', () => {
  it('gives everyone what is wanted when it fits, and with no bound', () => {
    const asked = [demand(5, 3), demand(0, 2), demand(0, 0)]
    expect(shareInstances(5, asked)).toEqual([3, 2, 0])
    expect(shareInstances(Number.POSITIVE_INFINITY, asked)).toEqual([3, 2, 0])
    expect(shareInstances(0, [])).toEqual([])
  })

  it('divides the rest so that the instances have about the same load', () => {
    expect(shareInstances(6, [demand(40, 9), demand(20, 9)])).toEqual([4, 2])
    expect(shareInstances(4, [demand(100, 9), demand(1, 9)])).toEqual([3, 1])
  })

  it('takes from the service that is idle the longest', () => {
    const idle = [demand(0, 2, { idleSince: 10 }), demand(0, 2, { idleSince: 20 })]
    expect(shareInstances(4, [demand(9, 1), ...idle])).toEqual([1, 1, 2])
    expect(shareInstances(3, [demand(9, 1), ...idle])).toEqual([1, 0, 2])
    expect(shareInstances(3, [demand(9, 9), ...idle])).toEqual([3, 0, 0])
  })

  it('keeps the min size of an idle service, unless a busy one had none', () => {
    const idle = demand(0, 2, { minSize: 2 })
    expect(shareInstances(5, [demand(9, 9), idle])).toEqual([3, 2])
    expect(shareInstances(2, [demand(9, 9), idle])).toEqual([1, 1])
    expect(shareInstances(1, [demand(9, 9), idle])).toEqual([1, 0])
  })

  it('does not move an instance for a small difference of load, but does for a large one', () => {
    const running = (a: number, b: number) => [
      demand(a, 9, { running: 2 }),
      demand(b, 9, { running: 1 }),
    ]
    expect(shareInstances(3, running(10, 11))).toEqual([2, 1])
    expect(shareInstances(3, running(10, 13))).toEqual([1, 2])
  })

  it('leaves the only instance where it runs for a small difference of load, but not for a large one', () => {
    const here = demand(10, 1, { running: 1 })
    expect(shareInstances(1, [demand(11, 1), here])).toEqual([0, 1])
    expect(shareInstances(1, [here, demand(11, 1)])).toEqual([1, 0])
    expect(shareInstances(1, [demand(13, 1), here])).toEqual([1, 0])
    expect(shareInstances(2, [demand(11, 1), here, demand(11, 1, { running: 1 })])).toEqual([
      0, 1, 1,
    ])
  })

  it.each([-1, 1.5, Number.NaN, '3', undefined])('refuses a budget of %s', (budget) => {
    expect(() => shareInstances(budget as number, [])).toThrow(
      expect.objectContaining({ code: 'MANYHOST_INVALID_OPTION' }),
    )
  })
})

describe('share, whatever is asked', () => {
  it('gives whole instances, none above what is wanted, and spends the budget exactly', () => {
    property((budget, asked, shares) => {
      expect(shares.length).toBe(asked.length)
      for (const [i, n] of shares.entries()) {
        expect(Number.isInteger(n) && n >= 0 && n <= (asked[i] as InstanceDemand).wanted).toBe(true)
      }
      expect(total(shares)).toBe(Math.min(budget, total(asked.map((d) => d.wanted))))
    })
  })

  it('gives each busy service one, if the budget has as many', () => {
    property((budget, asked, shares) => {
      if (asked.filter(busy).length > budget) return
      for (const [i, d] of asked.entries()) if (busy(d)) expect(shares[i]).toBeGreaterThan(0)
    })
  })

  it('keeps all promises that the budget can keep', () => {
    property((budget, asked, shares) => {
      if (total(asked.map(floor)) > budget) return
      for (const [i, d] of asked.entries()) expect(shares[i]).toBeGreaterThanOrEqual(floor(d))
    })
  })

  it('lets an idle service keep more than its min size only where no busy one lacks any', () => {
    property((_, asked, shares) => {
      const keeps = asked.some((d, i) => !busy(d) && (shares[i] as number) > floor(d))
      if (!keeps) return
      for (const [i, d] of asked.entries()) if (busy(d)) expect(shares[i]).toBe(d.wanted)
    })
  })

  it('lets the service that is idle the longest give way first', () => {
    property((_, asked, shares) => {
      for (const [i, older] of asked.entries()) {
        for (const [j, newer] of asked.entries()) {
          if (older.load > 0 || newer.load > 0 || older.idleSince >= newer.idleSince) continue
          if ((shares[i] as number) > floor(older)) expect(shares[j]).toBe(newer.wanted)
        }
      }
    })
  })

  it('levels the load: an instance moved to another busy service would not lower the highest', () => {
    property((budget, given) => {
      const asked = given.map((d) => ({ ...d, running: 0 }))
      const shares = shareInstances(budget, asked)
      for (const [i, a] of asked.entries()) {
        for (const [j, b] of asked.entries()) {
          const [has, other] = [shares[i] as number, shares[j] as number]
          if (i === j || !busy(a) || !busy(b) || has >= a.wanted || other <= floor(b)) continue
          expect(a.load / Math.max(1, has)).toBeLessThanOrEqual(b.load / (other - 1))
        }
      }
    })
  })

  it('is stable: the shares that follow from shares granted are the same', () => {
    property((budget, asked, shares) => {
      expect(shareInstances(budget, asked)).toEqual(shares)
      const granted = asked.map((d, i) => ({ ...d, running: shares[i] as number }))
      expect(shareInstances(budget, granted)).toEqual(shares)
    })
  })

  it('takes nothing from anyone when the budget grows', () => {
    property((budget, asked, shares) => {
      const more = shareInstances(budget + 1, asked)
      for (const [i, n] of shares.entries()) expect(more[i]).toBeGreaterThanOrEqual(n)
    })
  })
})

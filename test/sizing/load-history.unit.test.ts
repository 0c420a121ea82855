import { describe, expect, it } from 'vitest'
import { averageLoad, type LoadHistory, recordLoad } from '../../src/sizing/load-history.ts'
import fc from '../properties.ts'

const window = { keep: 60_000, grain: 200 }
type Look = { wait: number; load: number }

function looks(list: readonly Look[], settings = window): { all: LoadHistory; end: number } {
  let at = 0
  let all = recordLoad(undefined, { at, load: 0 }, settings)
  for (const { wait, load } of list) {
    at += wait
    all = recordLoad(all, { at, load }, settings)
  }
  return { all, end: at }
}

const anyLooks = fc.array(fc.record({ wait: fc.nat(3_000), load: fc.nat(100) }), {
  minLength: 1,
  maxLength: 80,
})

describe('average', () => {
  it('is the load itself before any time has passed', () => {
    const first = recordLoad(undefined, { at: 5, load: 7 }, window)
    expect(averageLoad(first, 60_000)).toBe(7)
    expect(averageLoad(recordLoad(first, { at: 5, load: 9 }, window), 60_000)).toBe(9)
  })

  it('weighs a load by how long it lasted', () => {
    const { all } = looks([
      { wait: 0, load: 10 },
      { wait: 1_000, load: 0 },
      { wait: 3_000, load: 5 },
    ])
    expect(averageLoad(all, 60_000)).toBeCloseTo(2.5)
    expect(averageLoad(all, 3_000)).toBe(0)
    expect(averageLoad(all, 3_500)).toBeCloseTo((10 * 500) / 3_500)
  })

  it('does not depend on how often it was looked at', () => {
    fc.assert(
      fc.property(fc.nat(50), fc.integer({ min: 1, max: 999 }), (load, wait) => {
        const often = Array.from({ length: 100 }, () => ({ wait, load }))
        const { all } = looks([{ wait: 0, load }, ...often])
        expect(averageLoad(all, 6_000)).toBeCloseTo(load, 9)
      }),
    )
  })

  it('is the exact average over a long window, and lies between the extremes over any', () => {
    fc.assert(
      fc.property(anyLooks, fc.integer({ min: 1, max: 60_000 }), (list, part) => {
        const { all, end } = looks(list, { keep: 1e9, grain: 200 })
        let area = 0
        for (const [i, { wait }] of list.entries()) area += wait * (list[i - 1]?.load ?? 0)
        if (end > 0) expect(averageLoad(all, 1e9)).toBeCloseTo(area / end, 6)
        const mean = averageLoad(all, part)
        expect(mean).toBeGreaterThanOrEqual(0)
        expect(mean).toBeLessThanOrEqual(Math.max(...list.map(({ load }) => load)) + 1e-9)
      }),
    )
  })

  it('keeps no more than the window needs, however many looks there are', () => {
    const many = Array.from({ length: 20_000 }, (_, i) => ({ wait: 7, load: i % 9 }))
    const { all } = looks(many)
    expect(all.pieces.length).toBeLessThanOrEqual(1 + (2 * window.keep) / window.grain)
    expect(all.pieces[0]?.to).toBeGreaterThan(all.at - window.keep)
  })
})

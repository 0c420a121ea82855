/** How many runners a batch gets, period by period. */
import { describe, expect, it } from 'vitest'
import { parseOptions } from '../../src/options.ts'
import {
  DynamicTasks,
  dynamicSize,
  FixedTasks,
  fixedSize,
  pressure,
  SCALING_RULES,
  type Work,
} from '../../src/tasks/scaling.ts'
import { thrown } from '../help.ts'

const idle: Work = { remaining: 0, running: 0, rate: null, averageDuration: null, isClosed: false }
const settings = (given = {}) =>
  parseOptions('test', { maxSize: 10, period: 1_000, ...given }, SCALING_RULES)

describe('fixed', () => {
  it('has its size while there is work for it, its minimum when not, and nothing at the end', () => {
    const own = settings({ initSize: 4, minSize: 1 })
    expect(fixedSize({ ...idle, remaining: 100 }, own)).toBe(4)
    expect(fixedSize({ ...idle, remaining: 2 }, own)).toBe(2)
    expect(fixedSize(idle, own)).toBe(1)
    expect(fixedSize({ ...idle, isClosed: true }, own)).toBe(0)
    expect(fixedSize({ ...idle, isClosed: true, running: 1 }, own)).toBe(1)
  })

  it('starts one for the first task, though its minimum is 0', () => {
    expect(fixedSize({ ...idle, remaining: 1 }, settings({ initSize: 0 }))).toBe(1)
  })

  it('knows how many tasks one runner takes', () => {
    expect(fixedSize({ ...idle, remaining: 17 }, settings({ initSize: 8, places: 8 }))).toBe(3)
  })
})

describe('dynamic', () => {
  it('measures pressure in mean task times', () => {
    expect(pressure({ ...idle, remaining: 100, rate: 10, averageDuration: 1_000 }, 1)).toBe(10)
    expect(pressure({ ...idle, remaining: 100, rate: 10, averageDuration: 1_000 }, 20)).toBe(0.5)
    expect(pressure({ ...idle, remaining: 100 }, 1)).toBeNull()
  })

  it('grows to its maximum in periods, never faster than twofold, and down again', () => {
    const own = settings({ initSize: 1, maxSize: 6, factor: 2 })
    const busy: Work = { ...idle, remaining: 1_000, rate: 1, averageDuration: 1_000 }
    let last = dynamicSize(busy, 0, undefined, own)
    const sizes = [last.size]
    for (let at = 500; at <= 4_000; at += 500) {
      last = dynamicSize(busy, at, last, own)
      sizes.push(last.size)
    }
    expect(sizes).toEqual([1, 1, 2, 2, 4, 4, 6, 6, 6])
    last = dynamicSize({ ...busy, remaining: 3, rate: 6 }, 5_000, last, own)
    expect(last.size).toBe(2)
    last = dynamicSize({ ...idle, running: 1 }, 6_000, last, own)
    expect(last.size).toBe(1)
    last = dynamicSize(idle, 7_000, last, own)
    expect(last.size).toBe(0)
    expect(dynamicSize({ ...idle, remaining: 1 }, 7_001, last, own).size).toBe(1)
  })

  it('stays as it is while nobody knows how fast the work goes, and keeps its minimum', () => {
    const own = settings({ initSize: 3, minSize: 2 })
    const unknown: Work = { ...idle, remaining: 100 }
    const first = dynamicSize(unknown, 0, undefined, own)
    expect([first.size, dynamicSize(unknown, 1_000, first, own).size]).toEqual([3, 3])
    expect(dynamicSize(idle, 2_000, first, own).size).toBe(2)
    expect(dynamicSize({ ...idle, isClosed: true }, 2_001, first, own).size).toBe(0)
  })

  it('ends with its work (weakness 4)', () => {
    let work: Work = { ...idle, remaining: 5, isClosed: true }
    const policy = new DynamicTasks(() => work, { initSize: 2, maxSize: 4 })
    expect([Number(policy), policy.isFinished]).toEqual([2, false])
    work = { ...idle, isClosed: true }
    expect([Number(policy), policy.isFinished]).toEqual([0, true])
  })
})

it('settings are checked', () => {
  expect(thrown(() => new FixedTasks(() => idle, { minSize: 3, maxSize: 2 })).message).toMatch(
    /above maxSize/,
  )
  expect(thrown(() => new DynamicTasks(() => idle, { factor: 0 })).code).toBe(
    'MANYHOST_INVALID_OPTION',
  )
  expect(Number(new FixedTasks(() => ({ ...idle, remaining: 9 }), { initSize: 3 }))).toBe(3)
})

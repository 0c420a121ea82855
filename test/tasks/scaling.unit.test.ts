/** How many runners a batch gets, period by period. */
import { describe, expect, it } from 'vitest'
import { parseOptions } from '../../src/core/options.ts'
import {
  DynamicTasks,
  dynamicSize,
  FixedTasks,
  fixedSize,
  pressure,
  SCALING_RULES,
  type Work,
} from '../../src/tasks/scaling.ts'
import { parseCluster } from '../../src/tasks/server/options.ts'
import { runnersWanted } from '../../src/tasks/server/prospect.ts'
import type { Progress } from '../../src/tasks/store/counts.ts'
import { falseClock } from '../clock.ts'
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

describe('the runners that a run wants', () => {
  /** `remaining` tasks are left, which took a second each, of which one has ended each second. */
  function wanting(options: Parameters<typeof parseCluster>[0]) {
    const server = { held: 0, state: 'working' as 'working' | 'draining' }
    const progress = { remaining: 100, rate: 1, averageDuration: 1_000 }
    const wanted = runnersWanted(parseCluster(options), server, () => progress as Progress)
    return { server, progress, size: () => wanted?.() }
  }

  it('are as many as it began with, where nothing says otherwise', () => {
    expect(wanting({ runners: 3 }).size()).toBeUndefined()
  })

  it('are none when there was nothing to do for the client timeout, until there is', async () => {
    const { pass } = falseClock()
    const { server, progress, size } = wanting({ runners: 3, clientTimeout: 5_000 })
    await pass(60_000)
    expect(size()).toBe(3)
    progress.remaining = 0
    await pass(4_999)
    expect(size()).toBe(3)
    await pass(1)
    expect(size()).toBe(0)
    // One that runs, or one that has come.
    server.held = 1
    expect(size()).toBe(3)
    server.held = 0
    await pass(5_000)
    expect(size()).toBe(0)
    progress.remaining = 1
    expect(size()).toBe(3)
  })

  it('are by the policy, within its bounds, and none when it is over', async () => {
    const { pass } = falseClock()
    const fixed = wanting({ autoscaling: 'fixed', runners: 4, minSize: 1, places: 2 })
    expect(fixed.size()).toBe(4)
    fixed.progress.remaining = 6
    expect(fixed.size()).toBe(3)
    fixed.progress.remaining = 0
    expect(fixed.size()).toBe(1)
    fixed.server.state = 'draining'
    expect(fixed.size()).toBe(0)
    const dynamic = wanting({ autoscaling: 'dynamic', period: 5_000, factor: 10, maxSize: 9 })
    const sizes: (number | undefined)[] = []
    for (let turn = 0; turn < 6; turn++) {
      sizes.push(dynamic.size())
      await pass(5_000)
    }
    expect(sizes).toEqual([1, 2, 4, 8, 9, 9])
    dynamic.progress.remaining = 10
    expect(dynamic.size()).toBe(9)
    await pass(5_000)
    dynamic.progress.remaining = 5
    expect(dynamic.size()).toBe(5)
    // Without a maximum: no more than it began with. And before anybody has looked: as if there were one task.
    const least = wanting({ autoscaling: 'dynamic', runners: 2, period: 1_000 })
    expect(least.size()).toBe(2)
    await pass(1_000)
    expect(least.size()).toBe(2)
    const settings = parseCluster({ autoscaling: 'dynamic' })
    expect(runnersWanted(settings, least.server, () => undefined)?.()).toBe(1)
  })

  it('has bounds that fit each other', () => {
    expect(() => wanting({ autoscaling: 'dynamic', minSize: 3, maxSize: 2 })).toThrow(
      /minSize 3 is above maxSize 2/,
    )
  })
})

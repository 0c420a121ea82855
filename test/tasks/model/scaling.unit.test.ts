/** How many runners a batch gets, period by period. */
import { describe, expect, it } from 'vitest'
import { parseOptions } from '../../../src/core/options.ts'
import {
  computeDynamicSize,
  computeFixedSize,
  computePressure,
  DynamicTasks,
  FixedTasks,
  SCALING_RULES,
  type TaskWorkload,
} from '../../../src/tasks/model/scaling.ts'
import { parseClusterOptions } from '../../../src/tasks/server/options.ts'
import { createRunnerSize } from '../../../src/tasks/server/progress-monitor.ts'
import type { StoreProgress } from '../../../src/tasks/store/counts.ts'
import { useFalseClock } from '../../clock.ts'
import { catchThrown } from '../../help.ts'

const idle: TaskWorkload = {
  remaining: 0,
  running: 0,
  rate: null,
  averageDuration: null,
  isClosed: false,
}
const settings = (given = {}) =>
  parseOptions('test', { maxSize: 10, period: 1_000, ...given }, SCALING_RULES)

describe('fixed', () => {
  it('has its size while there is work for it, its minimum when not, and nothing at the end', () => {
    const own = settings({ initSize: 4, minSize: 1 })
    expect(computeFixedSize({ ...idle, remaining: 100 }, own)).toBe(4)
    expect(computeFixedSize({ ...idle, remaining: 2 }, own)).toBe(2)
    expect(computeFixedSize(idle, own)).toBe(1)
    expect(computeFixedSize({ ...idle, isClosed: true }, own)).toBe(0)
    expect(computeFixedSize({ ...idle, isClosed: true, running: 1 }, own)).toBe(1)
  })

  it('starts one for the first task, though its minimum is 0', () => {
    expect(computeFixedSize({ ...idle, remaining: 1 }, settings({ initSize: 0 }))).toBe(1)
  })

  it('knows how many tasks one runner takes', () => {
    expect(
      computeFixedSize({ ...idle, remaining: 17 }, settings({ initSize: 8, numTasks: 8 })),
    ).toBe(3)
  })
})

describe('dynamic', () => {
  it('measures pressure in mean task times', () => {
    expect(computePressure({ ...idle, remaining: 100, rate: 10, averageDuration: 1_000 }, 1)).toBe(
      10,
    )
    expect(computePressure({ ...idle, remaining: 100, rate: 10, averageDuration: 1_000 }, 20)).toBe(
      0.5,
    )
    expect(computePressure({ ...idle, remaining: 100 }, 1)).toBeNull()
  })

  it('grows to its maximum in periods, never faster than twofold, and down again', () => {
    const own = settings({ initSize: 1, maxSize: 6, factor: 2 })
    const busy: TaskWorkload = { ...idle, remaining: 1_000, rate: 1, averageDuration: 1_000 }
    let last = computeDynamicSize(busy, 0, undefined, own)
    const sizes = [last.size]
    for (let at = 500; at <= 4_000; at += 500) {
      last = computeDynamicSize(busy, at, last, own)
      sizes.push(last.size)
    }
    expect(sizes).toEqual([1, 1, 2, 2, 4, 4, 6, 6, 6])
    last = computeDynamicSize({ ...busy, remaining: 3, rate: 6 }, 5_000, last, own)
    expect(last.size).toBe(2)
    last = computeDynamicSize({ ...idle, running: 1 }, 6_000, last, own)
    expect(last.size).toBe(1)
    last = computeDynamicSize(idle, 7_000, last, own)
    expect(last.size).toBe(0)
    expect(computeDynamicSize({ ...idle, remaining: 1 }, 7_001, last, own).size).toBe(1)
  })

  it('stays as it is while nobody knows how fast the work goes, and keeps its minimum', () => {
    const own = settings({ initSize: 3, minSize: 2 })
    const unknown: TaskWorkload = { ...idle, remaining: 100 }
    const first = computeDynamicSize(unknown, 0, undefined, own)
    expect([first.size, computeDynamicSize(unknown, 1_000, first, own).size]).toEqual([3, 3])
    expect(computeDynamicSize(idle, 2_000, first, own).size).toBe(2)
    expect(computeDynamicSize({ ...idle, isClosed: true }, 2_001, first, own).size).toBe(0)
  })

  it('ends with its work (weakness 4)', () => {
    let work: TaskWorkload = { ...idle, remaining: 5, isClosed: true }
    const policy = new DynamicTasks(() => work, { initSize: 2, maxSize: 4 })
    expect([Number(policy), policy.isFinished]).toEqual([2, false])
    work = { ...idle, isClosed: true }
    expect([Number(policy), policy.isFinished]).toEqual([0, true])
  })
})

it('settings are checked', () => {
  expect(catchThrown(() => new FixedTasks(() => idle, { minSize: 3, maxSize: 2 })).message).toMatch(
    /above maxSize/,
  )
  expect(catchThrown(() => new DynamicTasks(() => idle, { factor: 0 })).code).toBe(
    'MANYHOST_INVALID_OPTION',
  )
  expect(Number(new FixedTasks(() => ({ ...idle, remaining: 9 }), { initSize: 3 }))).toBe(3)
})

describe('the runners that a run wants', () => {
  /** `remaining` tasks are left, which took a second each, of which one has ended each second. */
  function wanting(options: Parameters<typeof parseClusterOptions>[0]) {
    const server = { claimedCount: 0, state: 'working' as 'working' | 'draining' }
    const progress = { remaining: 100, rate: 1, averageDuration: 1_000 }
    const load = {
      get claimedCount() {
        return server.claimedCount
      },
      get state() {
        return server.state
      },
      progress: progress as StoreProgress,
    }
    const wanted = createRunnerSize(parseClusterOptions(options), load)
    return { server, progress, size: () => wanted?.() }
  }

  it('are as many as it began with, where nothing says otherwise', () => {
    expect(wanting({ runners: 3 }).size()).toBeUndefined()
  })

  it('are none when there was nothing to do for the client timeout, until there is', async () => {
    const { pass } = useFalseClock()
    const { server, progress, size } = wanting({ runners: 3, clientTimeout: 5_000 })
    await pass(60_000)
    expect(size()).toBe(3)
    progress.remaining = 0
    await pass(4_999)
    expect(size()).toBe(3)
    await pass(1)
    expect(size()).toBe(0)
    // One that runs, or one that has come.
    server.claimedCount = 1
    expect(size()).toBe(3)
    server.claimedCount = 0
    await pass(5_000)
    expect(size()).toBe(0)
    progress.remaining = 1
    expect(size()).toBe(3)
  })

  it('are by the policy, within its bounds, and none when it is over', async () => {
    const { pass } = useFalseClock()
    const fixed = wanting({ autoscaling: 'fixed', runners: 4, minSize: 1, numTasks: 2 })
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
    const settings = parseClusterOptions({ autoscaling: 'dynamic' })
    expect(createRunnerSize(settings, { ...least.server, progress: undefined })?.()).toBe(1)
  })

  it('has bounds that fit each other', () => {
    expect(() => wanting({ autoscaling: 'dynamic', minSize: 3, maxSize: 2 })).toThrow(
      /minSize 3 is above maxSize 2/,
    )
  })
})

/** Who starts next: rules by example, and simulations with seeded randomness that hold the rules against each state. */
import { describe, expect, it } from 'vitest'
import { StartRateLimit } from '../../../src/tasks/runner/start-rate.ts'
import { type TaskResources, TaskSchedule } from '../../../src/tasks/runner/task-schedule.ts'
import { seededRandom } from '../../random.ts'

const GB = 1024 ** 3
const capacity = { numTasks: 8, cores: 4, memory: 8 * GB, backfillTimeout: 0 }
const wants = (cores: number, timeout: number | null = null, memory = 0): TaskResources => ({
  cores,
  memory,
  timeout,
})

describe('a schedule', () => {
  it('is first come, first served where all fits', () => {
    const schedule = new TaskSchedule<string>({ ...capacity, numTasks: 2 })
    for (const name of ['a', 'b', 'c']) schedule.enqueue(name, wants(1), 0)
    expect([schedule.startNext(0), schedule.startNext(0), schedule.startNext(0)]).toEqual([
      'a',
      'b',
      undefined,
    ])
    schedule.release('a')
    expect(schedule.startNext(0)).toBe('c')
  })

  it('lets only those pass a blocked one that will have ended before it can start', () => {
    const schedule = new TaskSchedule<string>(capacity)
    schedule.enqueue('runs', wants(3, 1_000), 0)
    schedule.startNext(0)
    schedule.enqueue('wide', wants(4), 0)
    schedule.enqueue('long', wants(1, 2_000), 0)
    schedule.enqueue('unknown', wants(1), 0)
    schedule.enqueue('short', wants(1, 900), 0)
    expect(schedule.startNext(100)).toBe('short')
    expect(schedule.startNext(100)).toBeUndefined()
    schedule.release('short')
    schedule.release('runs')
    expect(schedule.startNext(1_000)).toBe('wide')
  })

  it('lets those pass that take only what the blocked one leaves over', () => {
    const schedule = new TaskSchedule<string>(capacity)
    schedule.enqueue('runs', wants(2, 1_000), 0)
    schedule.startNext(0)
    schedule.enqueue('wide', wants(3), 0)
    schedule.enqueue('small', wants(1), 0)
    schedule.enqueue('next', wants(1), 0)
    expect(schedule.startNext(0)).toBe('small')
    expect(schedule.startNext(0)).toBeUndefined()
  })

  it('lets nobody pass where nobody knows when those that run will end', () => {
    const schedule = new TaskSchedule<string>(capacity)
    schedule.enqueue('one', wants(1), 0)
    schedule.enqueue('two', wants(2), 0)
    expect([schedule.startNext(0), schedule.startNext(0)]).toEqual(['one', 'two'])
    schedule.enqueue('wide', wants(3), 0)
    schedule.enqueue('small', wants(1, 100), 0)
    // It would leave room beside it when both have ended, but `two` may end first.
    expect(schedule.startNext(0)).toBeUndefined()
    schedule.release('two')
    expect(schedule.startNext(1)).toBe('wide')
  })

  it('lets anybody pass until its backfill timeout is over', () => {
    const schedule = new TaskSchedule<string>({ ...capacity, backfillTimeout: 500 })
    schedule.enqueue('runs', wants(3), 0)
    schedule.startNext(0)
    schedule.enqueue('wide', wants(4), 100)
    schedule.enqueue('one', wants(1), 100)
    schedule.enqueue('two', wants(1), 100)
    expect(schedule.startNext(100)).toBe('one')
    schedule.release('one')
    expect(schedule.startNext(600)).toBeUndefined()
  })

  it('refuses what can never run, and says why', () => {
    const schedule = new TaskSchedule<string>(capacity)
    expect(schedule.explainRefusal(wants(5))).toBe('it wants 5 cores, the runner has 4')
    expect(schedule.explainRefusal(wants(1, null, 9 * GB))).toMatch(/memory/)
    expect(schedule.explainRefusal(wants(4, null, 8 * GB))).toBeUndefined()
  })

  it('gives waiting ones back', () => {
    const schedule = new TaskSchedule<string>(capacity)
    for (const name of ['a', 'b', 'c']) schedule.enqueue(name, wants(1), 0)
    expect([schedule.remove('b'), schedule.remove('b')]).toEqual([true, false])
    expect(schedule.clear()).toEqual(['a', 'c'])
    expect([schedule.waiting, schedule.startNext(0)]).toEqual([0, undefined])
  })

  it.each([1, 2, 3, 4, 5, 6, 7, 8])('holds its limits and starves nobody, seed %i', (seed) => {
    const rng = seededRandom(seed)
    const schedule = new TaskSchedule<number>({ ...capacity, backfillTimeout: 1_000 })
    const tasks = Array.from({ length: 400 }, () => {
      const length = 1 + Math.floor(rng() * 2_000)
      return {
        wanted: wants(1 + Math.floor(rng() * 4), length, Math.floor(rng() * 8) * GB),
        length,
      }
    })
    const running = new Map<number, number>()
    const started = new Map<number, number>()
    let [at, added] = [0, 0]
    while (started.size < tasks.length || running.size > 0) {
      while (added < tasks.length && rng() < 0.5) {
        schedule.enqueue(added, tasks[added]?.wanted as TaskResources, at)
        added++
      }
      for (let one = schedule.startNext(at); one !== undefined; one = schedule.startNext(at)) {
        expect(started.has(one)).toBe(false)
        started.set(one, at)
        // Ends by its timeout at the latest, often before.
        running.set(one, at + (tasks[one]?.length as number) * (rng() < 0.5 ? 1 : rng()))
        const all = [...running.keys()].map((index) => tasks[index]?.wanted as TaskResources)
        expect(all.length).toBeLessThanOrEqual(capacity.numTasks)
        expect(all.reduce((sum, { cores }) => sum + cores, 0)).toBeLessThanOrEqual(capacity.cores)
        expect(all.reduce((sum, { memory }) => sum + memory, 0)).toBeLessThanOrEqual(
          capacity.memory,
        )
      }
      // Never idle while something waits: everything fits an empty machine.
      if (schedule.waiting > 0) expect(running.size).toBeGreaterThan(0)
      const ends = Math.min(...running.values())
      if (running.size > 0) at = Math.max(at, ends)
      for (const [index, end] of running) {
        if (end > at) continue
        running.delete(index)
        schedule.release(index)
      }
      if (added < tasks.length) at += rng() * 100
    }
    expect(started.size).toBe(tasks.length)
    expect(schedule.running).toBe(0)
  })

  it('is not slow with very many that wait', () => {
    const schedule = new TaskSchedule<number>({ ...capacity, numTasks: 1 })
    for (let i = 0; i < 200_000; i++) schedule.enqueue(i, wants(1), 0)
    for (let i = 0; i < 200_000; i++) {
      if (schedule.startNext(i) !== i) throw new Error(`not ${i}`)
      schedule.release(i)
    }
    expect(schedule.waiting).toBe(0)
  })
})

describe('a pace', () => {
  it('spaces starts evenly and saves nothing up', () => {
    const pace = new StartRateLimit(10)
    expect(pace.msUntilNext(0)).toBe(0)
    pace.recordStart(0)
    expect([pace.msUntilNext(0), pace.msUntilNext(60), pace.msUntilNext(100)]).toEqual([100, 40, 0])
    pace.recordStart(105)
    // The 5 ms that the timer was late are made up for.
    expect(pace.msUntilNext(105)).toBe(95)
    pace.recordStart(1_000)
    expect(pace.msUntilNext(1_000)).toBe(100)
  })

  it('without a limit never waits', () => {
    const pace = new StartRateLimit(Number.POSITIVE_INFINITY)
    for (let at = 0; at < 5; at++) {
      expect(pace.msUntilNext(at)).toBe(0)
      pace.recordStart(at)
    }
  })
})

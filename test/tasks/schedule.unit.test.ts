/** Who starts next: rules by example, and simulations with seeded randomness that hold the rules against each state. */
import { describe, expect, it } from 'vitest'
import { Pace } from '../../src/tasks/runner/pace.ts'
import { Schedule, type Wanted } from '../../src/tasks/schedule.ts'

const GB = 1024 ** 3
const capacity = { places: 8, cores: 4, memory: 8 * GB, patience: 0 }
const wants = (cores: number, timeout: number | null = null, memory = 0): Wanted => ({
  cores,
  memory,
  timeout,
})

function random(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}

describe('a schedule', () => {
  it('is first come, first served where all fits', () => {
    const schedule = new Schedule<string>({ ...capacity, places: 2 })
    for (const name of ['a', 'b', 'c']) schedule.add(name, wants(1), 0)
    expect([schedule.take(0), schedule.take(0), schedule.take(0)]).toEqual(['a', 'b', undefined])
    schedule.release('a')
    expect(schedule.take(0)).toBe('c')
  })

  it('lets only those pass a blocked one that will have ended before it can start', () => {
    const schedule = new Schedule<string>(capacity)
    schedule.add('runs', wants(3, 1_000), 0)
    schedule.take(0)
    schedule.add('wide', wants(4), 0)
    schedule.add('long', wants(1, 2_000), 0)
    schedule.add('unknown', wants(1), 0)
    schedule.add('short', wants(1, 900), 0)
    expect(schedule.take(100)).toBe('short')
    expect(schedule.take(100)).toBeUndefined()
    schedule.release('short')
    schedule.release('runs')
    expect(schedule.take(1_000)).toBe('wide')
  })

  it('lets those pass that take only what the blocked one leaves over', () => {
    const schedule = new Schedule<string>(capacity)
    schedule.add('runs', wants(2, 1_000), 0)
    schedule.take(0)
    schedule.add('wide', wants(3), 0)
    schedule.add('small', wants(1), 0)
    schedule.add('next', wants(1), 0)
    expect(schedule.take(0)).toBe('small')
    expect(schedule.take(0)).toBeUndefined()
  })

  it('lets nobody pass where nobody knows when those that run will end', () => {
    const schedule = new Schedule<string>(capacity)
    schedule.add('one', wants(1), 0)
    schedule.add('two', wants(2), 0)
    expect([schedule.take(0), schedule.take(0)]).toEqual(['one', 'two'])
    schedule.add('wide', wants(3), 0)
    schedule.add('small', wants(1, 100), 0)
    // It would leave room beside it when both have ended, but `two` may end first.
    expect(schedule.take(0)).toBeUndefined()
    schedule.release('two')
    expect(schedule.take(1)).toBe('wide')
  })

  it('lets anybody pass as long as its patience lasts', () => {
    const schedule = new Schedule<string>({ ...capacity, patience: 500 })
    schedule.add('runs', wants(3), 0)
    schedule.take(0)
    schedule.add('wide', wants(4), 100)
    schedule.add('one', wants(1), 100)
    schedule.add('two', wants(1), 100)
    expect(schedule.take(100)).toBe('one')
    schedule.release('one')
    expect(schedule.take(600)).toBeUndefined()
  })

  it('refuses what can never run, and says why', () => {
    const schedule = new Schedule<string>(capacity)
    expect(schedule.refusal(wants(5))).toBe('it wants 5 cores, there are 4')
    expect(schedule.refusal(wants(1, null, 9 * GB))).toMatch(/memory/)
    expect(schedule.refusal(wants(4, null, 8 * GB))).toBeUndefined()
  })

  it('gives waiting ones back', () => {
    const schedule = new Schedule<string>(capacity)
    for (const name of ['a', 'b', 'c']) schedule.add(name, wants(1), 0)
    expect([schedule.remove('b'), schedule.remove('b')]).toEqual([true, false])
    expect(schedule.clear()).toEqual(['a', 'c'])
    expect([schedule.waiting, schedule.take(0)]).toEqual([0, undefined])
  })

  it.each([1, 2, 3, 4, 5, 6, 7, 8])('holds its limits and starves nobody, seed %i', (seed) => {
    const rng = random(seed)
    const schedule = new Schedule<number>({ ...capacity, patience: 1_000 })
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
        schedule.add(added, tasks[added]?.wanted as Wanted, at)
        added++
      }
      for (let one = schedule.take(at); one !== undefined; one = schedule.take(at)) {
        expect(started.has(one)).toBe(false)
        started.set(one, at)
        // Ends by its timeout at the latest, often before.
        running.set(one, at + (tasks[one]?.length as number) * (rng() < 0.5 ? 1 : rng()))
        const all = [...running.keys()].map((index) => tasks[index]?.wanted as Wanted)
        expect(all.length).toBeLessThanOrEqual(capacity.places)
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
    const schedule = new Schedule<number>({ ...capacity, places: 1 })
    for (let i = 0; i < 200_000; i++) schedule.add(i, wants(1), 0)
    for (let i = 0; i < 200_000; i++) {
      if (schedule.take(i) !== i) throw new Error(`not ${i}`)
      schedule.release(i)
    }
    expect(schedule.waiting).toBe(0)
  })
})

describe('a pace', () => {
  it('spaces starts evenly and saves nothing up', () => {
    const pace = new Pace(10)
    expect(pace.wait(0)).toBe(0)
    pace.started(0)
    expect([pace.wait(0), pace.wait(60), pace.wait(100)]).toEqual([100, 40, 0])
    pace.started(105)
    // The 5 ms that the timer was late are made up for.
    expect(pace.wait(105)).toBe(95)
    pace.started(1_000)
    expect(pace.wait(1_000)).toBe(100)
  })

  it('without a limit never waits', () => {
    const pace = new Pace(Number.POSITIVE_INFINITY)
    for (let at = 0; at < 5; at++) {
      expect(pace.wait(at)).toBe(0)
      pace.started(at)
    }
  })
})

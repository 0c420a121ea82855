import { describe, expect, test } from 'vitest'
import { canTransition, isLive, isUp, NEXT_STATES } from '../../src/cluster/lifecycle.ts'
import {
  type ReconcileInput,
  type ReconcileInstance,
  reconcile,
  startBackoff,
} from '../../src/cluster/reconcile.ts'
import { StartHistory } from '../../src/cluster/start-history.ts'
import { ManyhostError } from '../../src/core/errors.ts'
import type { InstanceState } from '../../src/core/events.ts'
import fc from '../properties.ts'
import { seededRandom } from '../random.ts'

const STATES = Object.keys(NEXT_STATES) as InstanceState[]

describe('the table of states', () => {
  test('ends at stopped and failed, and nowhere else', () => {
    expect(STATES.filter((state) => NEXT_STATES[state].length === 0)).toEqual(['stopped', 'failed'])
  })

  test('leads to both ends from every other state, and never back from the way out', () => {
    for (const state of STATES.filter((one) => NEXT_STATES[one].length > 0)) {
      expect(canTransition(state, 'stopped')).toBe(true)
      expect(canTransition(state, 'failed')).toBe(true)
    }
    for (const state of ['pending', 'starting', 'ready', 'unready'] as const) {
      expect(canTransition('draining', state)).toBe(false)
      expect(canTransition(state, state)).toBe(false)
    }
  })

  test('live is what counts against the wanted size', () => {
    expect(STATES.filter(isLive)).toEqual(['pending', 'starting', 'ready', 'unready'])
    expect(STATES.filter(isUp)).toEqual(['ready', 'unready'])
  })
})

const instances = fc
  .array(
    fc.record({
      state: fc.constantFrom(...STATES.slice(0, 5)),
      inFlight: fc.nat(3),
      startedAt: fc.nat(50),
    }),
    { maxLength: 20 },
  )
  .map((all): ReconcileInstance[] => all.map((one, i) => ({ id: String(i), ...one })))

const facts: fc.Arbitrary<ReconcileInput> = fc.record({
  wanted: fc.oneof(fc.nat(25), fc.constant(Number.MAX_SAFE_INTEGER)),
  instances,
  maxStarting: fc.integer({ min: 1, max: 10 }),
  available: fc.oneof(fc.integer({ min: -3, max: 30 }), fc.constant(Number.POSITIVE_INFINITY)),
  startAt: fc.nat(2),
  now: fc.constant(1),
})

const of = (all: ReconcileInput, ids: readonly string[]) =>
  all.instances.filter(({ id }) => ids.includes(id))

describe('reconcile', () => {
  const holds = (check: (all: ReconcileInput, plan: ReturnType<typeof reconcile>) => void): void =>
    fc.assert(
      fc.property(facts, (all) => check(all, reconcile(all))),
      { numRuns: 1_000 },
    )

  test('never plans for more than wanted, and for no fewer than it may', () => {
    holds((all, plan) => {
      const live = all.instances.filter(({ state }) => isLive(state)).length
      const leaving = plan.cancel.length + plan.drain.length
      const after = live - leaving + plan.create
      if (live >= all.wanted) expect([after, plan.create]).toEqual([all.wanted, 0])
      else {
        expect(leaving).toBe(0)
        expect(after).toBeLessThanOrEqual(all.wanted)
      }
    })
  })

  test('makes no more than there is room for, and than may soon start', () => {
    holds((all, { create }) => {
      expect(create).toBeGreaterThanOrEqual(0)
      expect(create).toBeLessThanOrEqual(Math.max(0, all.available))
      expect(create).toBeLessThanOrEqual(all.maxStarting)
    })
  })

  test('lets no more start than maxStarting, and none before its time', () => {
    holds((all, plan) => {
      const kept = all.instances.filter(({ id }) => !plan.cancel.includes(id))
      const starting = kept.filter(({ state }) => state === 'starting').length
      const begun = plan.start.length + Math.min(plan.create, plan.startable)
      if (all.now < all.startAt) expect(begun).toBe(0)
      else expect(begun === 0 || starting + begun <= all.maxStarting).toBe(true)
      expect(of(all, plan.start).every(({ state }) => state === 'pending')).toBe(true)
      expect(plan.start.some((id) => plan.cancel.includes(id))).toBe(false)
    })
  })

  test('cancels what is not up, drains what is, each once, and leaves alone what is ending', () => {
    holds((all, plan) => {
      expect(of(all, plan.cancel).every(({ state }) => isLive(state) && !isUp(state))).toBe(true)
      expect(of(all, plan.drain).every(({ state }) => isUp(state))).toBe(true)
      const ids = [...plan.cancel, ...plan.drain]
      expect(new Set(ids).size).toBe(ids.length)
    })
  })

  test('lets go first what has not begun, is not up, is ill, is idle, and is young', () => {
    const order: InstanceState[] = ['pending', 'starting', 'unready', 'ready']
    holds((all, plan) => {
      const leaving = of(all, [...plan.cancel, ...plan.drain])
      const staying = all.instances.filter((one) => isLive(one.state) && !leaving.includes(one))
      for (const gone of leaving) {
        for (const kept of staying) {
          const rank =
            order.indexOf(gone.state) - order.indexOf(kept.state) ||
            gone.inFlight - kept.inFlight ||
            kept.startedAt - gone.startedAt
          expect(rank).toBeLessThanOrEqual(0)
        }
      }
    })
  })

  test('comes to rest: carried out as far as it goes, it has nothing more to do', () => {
    fc.assert(
      fc.property(facts, fc.integer({ min: 0, max: 200 }), (start, wanted) => {
        let all = { ...start, wanted, startAt: 0, available: Number.POSITIVE_INFINITY }
        let made = 1_000
        for (let round = 0; round < 400; round++) {
          const { create, start: begin, startable, cancel, drain } = reconcile(all)
          const isStarting = all.instances.some(({ state }) => state === 'starting')
          if (create + begin.length + cancel.length + drain.length === 0 && !isStarting) break
          const next = all.instances
            .filter(({ id }) => !cancel.includes(id) && !drain.includes(id))
            // What was starting is up by the next time.
            .map((one) => (one.state === 'starting' ? { ...one, state: 'ready' as const } : one))
            .map((one) => (begin.includes(one.id) ? { ...one, state: 'starting' as const } : one))
          for (let i = 0; i < create; i++) {
            const state = i < startable ? 'starting' : 'pending'
            next.push({ id: String(made++), state, inFlight: 0, startedAt: round })
          }
          all = { ...all, instances: next }
        }
        expect(all.instances.filter(({ state }) => isLive(state))).toHaveLength(wanted)
      }),
    )
  })
})

describe('failing starts', () => {
  const error = new ManyhostError('MANYHOST_START_FAILED', 'no')

  test('the wait doubles from 100 ms to 30 s, with jitter of a half', () => {
    expect(startBackoff(0, () => 0.5)).toBe(0)
    const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 10_000 }), random, (failures, draw) => {
        const full = Math.min(30_000, 100 * 2 ** (failures - 1))
        const wait = startBackoff(failures, () => draw)
        expect(wait).toBeGreaterThanOrEqual(full / 2)
        expect(wait).toBeLessThanOrEqual(full)
      }),
    )
  })

  test('side by side they are one failure; a success that has proved nothing ends no row', () => {
    const starts = new StartHistory(seededRandom(1))
    starts.recordFailure(error)
    const first = starts.nextStartAt
    starts.recordFailure(error)
    expect(starts.nextStartAt).toBe(first)
    starts.recordSuccess(5)
    expect([starts.nextStartAt, starts.failure]).toEqual([0, undefined])
    starts.recordFailure(error)
    const second = starts.nextStartAt - performance.now()
    expect(second).toBeGreaterThan(95)
    starts.recordSuccess(5)
    starts.resetFailures()
    starts.recordFailure(error)
    expect(starts.nextStartAt - performance.now()).toBeLessThanOrEqual(100)
    expect([starts.failedCount, starts.succeededCount, starts.duration.count]).toEqual([4, 2, 2])
  })
})

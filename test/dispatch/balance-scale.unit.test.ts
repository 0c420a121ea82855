/** What keeps a pick cheap among many, and away from a target that has fallen silent. */

import { expect, test } from 'vitest'
import {
  type Candidate,
  leastInFlight,
  type PickFacts,
  peakEwma,
  recordAbandoned,
  rendezvous,
} from '../../src/dispatch/balance.ts'
import { hashText } from '../../src/dispatch/hash.ts'
import { HashSlots } from '../../src/dispatch/hash-slots.ts'
import { expectNothingLeft } from '../leftovers.ts'
import fc from '../properties.ts'

expectNothingLeft()

function target(id: string, given: Partial<Candidate> = {}): Candidate {
  const latency = { cost: 100, updatedAt: 0 }
  const askedAt = Number.POSITIVE_INFINITY
  return { id, hash: hashText(id), open: true, slots: 32, inFlight: 0, latency, askedAt, ...given }
}

const facts = { turn: 0, now: 0, fewest: 0, random: Math.random, affinity: undefined, avoid: -1 }

/** How often each is picked in a thousand times. */
function picks(targets: Candidate[], given: Partial<PickFacts> = {}): number[] {
  const counts = targets.map(() => 0)
  for (let turn = 0; turn < 1_000; turn++) {
    const index = peakEwma(targets, { ...facts, turn, ...given })
    counts[index] = (counts[index] ?? 0) + 1
  }
  return counts
}

test('a target that owes an answer for long counts as slow before it gives one', () => {
  const silent = target('silent', { inFlight: 2, askedAt: 0 })
  const others = ['a', 'b', 'c'].map((id) => target(id, { inFlight: 5, askedAt: 950 }))
  expect(picks([silent, ...others], { now: 1_000 })[0]).toBe(0)
})

test('an idle target that is ten times slower is no match for busy ones', () => {
  const slow = target('slow', { latency: { cost: 2_000, updatedAt: 0 } })
  const others = ['a', 'b', 'c'].map((id) => target(id, { inFlight: 15 }))
  expect(picks([slow, ...others])[0]).toBe(0)
})

test('a request given up without an answer counts only if it waited longer than usual', () => {
  const latency = { cost: 100, updatedAt: 0 }
  recordAbandoned(latency, 90, 0)
  expect(latency).toEqual({ cost: 100, updatedAt: 0 })
  recordAbandoned(latency, 350, 500)
  expect(latency).toEqual({ cost: 700, updatedAt: 500 })
  recordAbandoned(latency, 350, 60_000)
  expect(latency).toEqual({ cost: 700, updatedAt: 60_000 })
})

test('the last free target among many is found', () => {
  const targets = Array.from({ length: 500 }, (_, i) => target(`t${i}`, { inFlight: 32 }))
  targets[321] = target('free')
  expect(picks(targets)[321]).toBe(1_000)
  expect(peakEwma(targets, { ...facts, avoid: 321 })).toBe(321)
})

test('least in flight answers the same with a true bound as without one', () => {
  const one = fc.record({ inFlight: fc.nat(4), places: fc.integer({ min: 1, max: 4 }) })
  fc.assert(
    fc.property(fc.array(one, { minLength: 1, maxLength: 20 }), fc.nat(), (given, turn) => {
      const targets = given.map((part, i) => target(`t${i}`, part))
      const free = targets.filter(({ inFlight, slots: places }) => inFlight < places)
      const fewest = Math.min(...free.map(({ inFlight }) => inFlight))
      const plain = leastInFlight(targets, { ...facts, turn })
      const bounded = leastInFlight(targets, { ...facts, turn, fewest })
      expect(bounded).toBe(plain)
    }),
  )
})

test('a key moves only when its own target goes', () => {
  const targets = Array.from({ length: 20 }, (_, i) => target(`t${i}`))
  for (let key = 0; key < 200; key++) {
    const affinity = `key${key}`
    const chosen = rendezvous(targets, { ...facts, affinity })
    const fewer = targets.filter((_, i) => i !== (chosen + 1) % 20)
    expect(fewer[rendezvous(fewer, { ...facts, affinity })]).toBe(targets[chosen])
  }
})

test('keys spread evenly', () => {
  const targets = Array.from({ length: 10 }, (_, i) => target(`calc-1a2b3c4d-${i + 1}`))
  const counts = targets.map(() => 0)
  for (let key = 0; key < 5_000; key++) {
    const index = rendezvous(targets, { ...facts, affinity: `user-${key}` })
    counts[index] = (counts[index] ?? 0) + 1
  }
  for (const count of counts) expect(count).toBeGreaterThan(400)
  for (const count of counts) expect(count).toBeLessThan(600)
})

test('slots change no choice, whoever is busy or to be avoided, comes or goes', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uniqueArray(fc.string(), { maxLength: 30 }), { minLength: 1, maxLength: 4 }),
      fc.array(fc.boolean(), { minLength: 30, maxLength: 30 }),
      fc.array(fc.string(), { minLength: 1 }),
      fc.integer({ min: -1, max: 29 }),
      (sets, busy, keys, given) => {
        const slots = new HashSlots()
        for (const ids of sets) {
          const targets = ids.map((id, i) => target(id, { inFlight: busy[i] ? 32 : 0 }))
          slots.reset(targets)
          for (const affinity of [...keys, ...keys]) {
            const asked = { ...facts, affinity, avoid: Math.min(given, ids.length - 1) }
            expect(rendezvous(targets, { ...asked, hashSlots: slots })).toBe(
              rendezvous(targets, asked),
            )
          }
        }
      },
    ),
  )
})

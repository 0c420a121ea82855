import { describe, expect, test } from 'vitest'
import {
  type Candidate,
  leastInFlight,
  PICKS_BY_NAME,
  type Pick,
  type PickFacts,
  peakEwma,
  recordRoundTrip,
  rendezvous,
  roundRobin,
} from '../../src/dispatch/balance.ts'
import { hashText } from '../../src/dispatch/hash.ts'
import { expectNothingLeft } from '../leftovers.ts'
import fc from '../properties.ts'
import { seededRandom } from '../random.ts'

expectNothingLeft()

function target(id: string, inFlight = 0, slots = 1, cost = 0): Candidate {
  const latency = { cost, updatedAt: 0 }
  return { id, hash: hashText(id), open: true, slots, inFlight, latency, askedAt: Infinity }
}

function facts(part: Partial<PickFacts> = {}): PickFacts {
  const random = seededRandom(7)
  return { turn: 0, now: 0, fewest: 0, random, affinity: undefined, avoid: -1, ...part }
}

const candidate = fc.record({
  id: fc.string({ minLength: 1, maxLength: 5 }),
  hash: fc.nat(),
  askedAt: fc.constant(Infinity),
  open: fc.boolean(),
  slots: fc.integer({ min: 1, max: 4 }),
  inFlight: fc.integer({ min: 0, max: 4 }),
  latency: fc.record({
    cost: fc.double({ min: 0, max: 1e4, noNaN: true }),
    updatedAt: fc.nat(100),
  }),
})
const isFree = ({ open, inFlight, slots }: Candidate) => open && inFlight < slots

describe('every pick', () => {
  const all: [string, Pick][] = [...Object.entries(PICKS_BY_NAME), ['rendezvous', rendezvous]]

  test.each(all)('%s: a free target if there is one, the avoided one only alone', (_, pick) => {
    fc.assert(
      fc.property(
        fc.array(candidate, { minLength: 1, maxLength: 8 }),
        fc.nat(1_000),
        fc.integer({ min: -1, max: 7 }),
        fc.option(fc.string(), { nil: undefined }),
        fc.integer(),
        (targets, turn, failed, affinity, seed) => {
          const avoid = failed < targets.length ? failed : -1
          const index = pick(targets, facts({ turn, avoid, affinity, random: seededRandom(seed) }))
          const free = targets.flatMap((one, i) => (isFree(one) ? [i] : []))
          if (free.length === 0) expect(index).toBe(-1)
          else expect(free).toContain(index)
          if (free.some((i) => i !== avoid)) expect(index).not.toBe(avoid)
        },
      ),
    )
  })
})

test('least in flight: the one with the fewest, and of equals each in turn', () => {
  const targets = [target('a', 2, 9), target('b', 1, 9), target('c', 1, 9), target('d', 3, 9)]
  const picked = [0, 1, 2, 3].map((turn) => leastInFlight(targets, facts({ turn })))
  expect(picked).toEqual([1, 1, 2, 1])
  expect(leastInFlight([target('a'), target('b')], facts({ turn: 1 }))).toBe(1)
})

test('round robin: each in turn, full ones left out', () => {
  const targets = [target('a'), target('b', 1, 1), target('c')]
  expect([0, 1, 2, 3].map((turn) => roundRobin(targets, facts({ turn })))).toEqual([0, 2, 2, 0])
})

test('peak EWMA: of two, the faster one; a slow answer counts at once and is forgotten slowly', () => {
  const targets = [target('slow', 0, 1, 500), target('fast', 0, 1, 5)]
  const random = seededRandom(1)
  for (let i = 0; i < 50; i++) expect(peakEwma(targets, facts({ random }))).toBe(1)
  const latency = { cost: 10, updatedAt: 0 }
  recordRoundTrip(latency, 400, 1_000)
  expect(latency).toEqual({ cost: 400, updatedAt: 1_000 })
  recordRoundTrip(latency, 10, 2_000)
  expect(latency.cost).toBeGreaterThan(350)
  recordRoundTrip(latency, 10, 100_000)
  expect(latency.cost).toBeCloseTo(10, 0)
})

test('peak EWMA: one that owes an answer for long counts as slow before it answers', () => {
  const silent = { ...target('silent', 1, 4, 5), askedAt: 0 }
  const targets = [silent, target('fast', 1, 4, 20)]
  const random = seededRandom(1)
  for (let i = 0; i < 50; i++) expect(peakEwma(targets, facts({ random, now: 400 }))).toBe(1)
})

test('peak EWMA: draws any two with the same chance', () => {
  const targets = ['a', 'b', 'c', 'd'].map((id) => target(id))
  const random = seededRandom(3)
  const counts = [0, 0, 0, 0]
  for (let i = 0; i < 8_000; i++) {
    const index = peakEwma(targets, facts({ random }))
    counts[index] = (counts[index] as number) + 1
  }
  for (const count of counts) expect(Math.abs(count - 2_000)).toBeLessThan(200)
})

describe('rendezvous hashing', () => {
  const ids = Array.from({ length: 10 }, (_, i) => `calc-1f3a-${i + 1}`)
  const keys = Array.from({ length: 3_000 }, (_, i) => `user ${i}`)
  const idOf = (key: string, of: readonly string[]) => {
    const targets = of.map((id) => target(id))
    return of[rendezvous(targets, facts({ affinity: key }))] as string
  }

  test('spreads keys evenly', () => {
    const counts = new Map<string, number>()
    for (const key of keys) counts.set(idOf(key, ids), (counts.get(idOf(key, ids)) ?? 0) + 1)
    for (const count of counts.values()) expect(Math.abs(count - 300)).toBeLessThan(90)
    expect(counts.size).toBe(10)
  })

  test('moves only the keys of a target that goes, or comes', () => {
    const [gone, ...rest] = ids as [string, ...string[]]
    for (const key of keys) {
      const before = idOf(key, ids)
      if (before !== gone) expect(idOf(key, rest)).toBe(before)
    }
  })

  test('does not depend on the order of the targets', () => {
    for (const key of keys.slice(0, 300)) {
      expect(idOf(key, ids.toReversed())).toBe(idOf(key, ids))
    }
  })
})

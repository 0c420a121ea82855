/** Which of the ready instances with a free place takes the next request: pure picks, randomness handed in. */

import { type HashSlots, hashSlotOf, scoreTarget } from './hash-slots.ts'

/** What a pick reads of a target. */
export interface Candidate {
  readonly id: string
  /** `hashOf(id)`. */
  readonly hash: number
  readonly open: boolean
  readonly slots: number
  readonly inFlight: number
  readonly latency: Latency
  /** When the request was given to it that has had no answer for the longest time; Infinity if there is none. */
  readonly askedAt: number
}

/** A peak-sensitive moving average of round-trip times, in ms. */
export interface Latency {
  cost: number
  /** When `cost` was last brought up to date. */
  updatedAt: number
}

export interface PickFacts {
  /** Counts up by one with each pick: where a search starts, so that ties rotate. */
  readonly turn: number
  readonly now: number
  /** No free target has fewer requests in flight than this: a search for the least may end where it finds as few. */
  readonly fewest: number
  /** Uniform in [0, 1). */
  readonly random: () => number
  /** Requests with the same key go to the same instance as long as it has a free place. */
  readonly affinity: string | undefined
  /** Of these targets, where it is remembered which one comes first for a key. */
  readonly hashSlots?: HashSlots | undefined
  /** Index of the target that failed this request last: taken only if there is no other. -1 if it is not among them. */
  readonly avoid: number
}

/**
 * Index of a target with a free place. One has such a place whenever the queue asks. A request that is sent again has the
 * choice only of those that have not failed it, while one of them is free. Whatever else a user's function answers is
 * reported once, and `leastInFlight` picks instead.
 */
export type Pick = (targets: readonly Candidate[], facts: PickFacts) => number

export function hasFreeSlot(target: Candidate | undefined): boolean {
  return target?.open === true && target.inFlight < target.slots
}

/** The free target with the fewest requests in flight; ties go round. Stops where there can be none with fewer. */
export const leastInFlight: Pick = (targets, { turn, avoid, fewest: bound }) => {
  const count = targets.length
  let best = -1
  let fewest = Number.POSITIVE_INFINITY
  for (let step = 0, index = turn % count; step < count; step++) {
    const target = targets[index] as Candidate
    if (target.inFlight < fewest && hasFreeSlot(target) && index !== avoid) {
      best = index
      fewest = target.inFlight
      if (fewest <= bound) break
    }
    if (++index === count) index = 0
  }
  return best === -1 ? pickAvoided(targets, avoid) : best
}

/** The free targets in turn. */
export const roundRobin: Pick = (targets, { turn, avoid }) => {
  const count = targets.length
  for (let step = 0; step < count; step++) {
    const index = (turn + step) % count
    if (index !== avoid && hasFreeSlot(targets[index] as Candidate)) return index
  }
  return pickAvoided(targets, avoid)
}

/** How long, in ms, an average remembers: Finagle's default. */
const DECAY_MS = 10_000

/**
 * Brings a peak EWMA up to date: a slower answer counts at once, a faster one only by and by.
 * Source: Finagle, "Beyond Round Robin: Load Balancing for Latency" (peak EWMA).
 */
export function recordRoundTrip(latency: Latency, roundTrip: number, now: number): void {
  const age = Math.max(0, now - latency.updatedAt)
  const weight = Math.exp(-age / DECAY_MS)
  latency.cost =
    roundTrip > latency.cost ? roundTrip : latency.cost * weight + roundTrip * (1 - weight)
  latency.updatedAt = now
}

/** What is remembered of it by now. */
function decayedCost({ cost, updatedAt: at }: Latency, now: number): number {
  return cost * Math.exp(-Math.max(0, now - at) / DECAY_MS)
}

/**
 * A request was given up after `waited` ms without an answer, as the slower copy of a hedged one is: its answer would
 * have taken longer, nobody knows how much, so twice that is remembered. Else a slow target would look fast where no
 * late answer of it is ever waited for.
 */
export function recordAbandoned(latency: Latency, waited: number, now: number): void {
  if (waited <= decayedCost(latency, now)) return
  latency.cost = 2 * waited
  latency.updatedAt = now
}

/**
 * What a target promises: its remembered round trip, faded with time, or how long it has owed an answer if that is
 * more, for each request that it has. So one that falls silent counts as slow before the first late answer is there.
 * Time counts by its square: places serve at the same time, so that an idle one that is ten times slower than the
 * others is no match for them even if they have nine requests each.
 */
function estimateLoad({ latency, askedAt, inFlight }: Candidate, now: number): number {
  const time = Math.max(decayedCost(latency, now), now - askedAt)
  return time * time * (inFlight + 1) + inFlight * 1e-6
}

/** Random draws of a free target before all are looked through. */
const MAX_DRAWS = 8

/** Index of a free target, all alike, other than these two; -1 for none. */
function drawFreeTarget(targets: readonly Candidate[], facts: PickFacts, not: number): number {
  const { random, avoid } = facts
  for (let drawn = 0; drawn < MAX_DRAWS; drawn++) {
    const index = Math.floor(random() * targets.length)
    if (index !== avoid && index !== not && hasFreeSlot(targets[index] as Candidate)) return index
  }
  const free: number[] = []
  for (let index = 0; index < targets.length; index++) {
    if (index !== avoid && index !== not && hasFreeSlot(targets[index] as Candidate))
      free.push(index)
  }
  return free[Math.floor(random() * free.length)] ?? free.at(-1) ?? -1
}

/**
 * Of two free targets drawn at random, the one that promises the shorter wait by peak EWMA.
 * Source: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001); Finagle's `p2cPeakEwma`.
 */
export const peakEwma: Pick = (targets, facts) => {
  const { now, avoid } = facts
  const a = drawFreeTarget(targets, facts, -1)
  if (a === -1) return pickAvoided(targets, avoid)
  const b = drawFreeTarget(targets, facts, a)
  if (b === -1) return a
  return estimateLoad(targets[b] as Candidate, now) < estimateLoad(targets[a] as Candidate, now)
    ? b
    : a
}

/**
 * The free target with the highest hash of (slot of the key, id): each slot has its own order of preference, so that a
 * target that comes or goes moves only the keys that it gets or had.
 * Source: Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates" (1998), rendezvous hashing.
 */
export const rendezvous: Pick = (targets, { affinity = '', avoid, hashSlots: slots }) => {
  const slot = hashSlotOf(affinity)
  // Nearly always it has a free place, and no other need be asked.
  const first = slots?.firstTarget(slot) ?? -1
  if (first !== -1 && first !== avoid && hasFreeSlot(targets[first] as Candidate)) return first
  let best = -1
  let highest = -1
  for (let index = 0; index < targets.length; index++) {
    const target = targets[index] as Candidate
    if (index === avoid || !hasFreeSlot(target)) continue
    const score = scoreTarget(target, slot)
    if (score > highest) {
      highest = score
      best = index
    }
  }
  return best === -1 ? pickAvoided(targets, avoid) : best
}

function pickAvoided(targets: readonly Candidate[], avoid: number): number {
  return avoid >= 0 && hasFreeSlot(targets[avoid] as Candidate) ? avoid : -1
}

export const PICKS_BY_NAME = {
  'least-in-flight': leastInFlight,
  'round-robin': roundRobin,
  'peak-ewma': peakEwma,
} as const satisfies Record<string, Pick>

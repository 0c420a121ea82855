/** Which of the ready instances with a free slot takes the next request. Pure: the randomness is an argument. */

import { type HashSlots, hashSlotOf, scoreTarget } from './hash-slots.ts'

/** What a pick reads of a target. */
export interface Candidate {
  readonly id: string
  /** `hashText(id)`. */
  readonly hash: number
  readonly open: boolean
  readonly slots: number
  readonly inFlight: number
  readonly latency: Latency
  /** When the oldest request without a response was given to it, on the clock of `now()`; Infinity without one. */
  readonly askedAt: number
}

/** A peak-sensitive moving average of round-trip times, in ms. */
export interface Latency {
  cost: number
  /** When `cost` was last updated, on the clock of `now()`. */
  updatedAt: number
}

export interface PickFacts {
  /** Counts up by one with each pick. A search starts here, so that ties rotate. */
  readonly turn: number
  readonly now: number
  /** A lower bound of the requests in flight of every free target: a search for the least may stop there. */
  readonly fewest: number
  /** Uniform in [0, 1). */
  readonly random: () => number
  /** Requests with the same key go to the same instance as long as it has a free slot. */
  readonly affinity: string | undefined
  /** Remembers which of these targets comes first for a key, if it is known. */
  readonly hashSlots?: HashSlots | undefined
  /** Index of the target that failed this request last: picked only if no other is free. -1 if there is none. */
  readonly avoid: number
}

/**
 * Answers the index of a target with a free slot. The queue calls it only when there is one. For a resend, targets that
 * have failed the request are left out while another one is free. If a user's function answers anything else, that is
 * reported once, and `leastInFlight` picks instead.
 */
export type Pick = (targets: readonly Candidate[], facts: PickFacts) => number

export function hasFreeSlot(target: Candidate | undefined): boolean {
  return target?.open === true && target.inFlight < target.slots
}

/** The free target with the fewest requests in flight; ties rotate. Stops early where no target can have fewer. */
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

/** Time constant of the moving average, in ms: Finagle's default. */
const DECAY_MS = 10_000

/**
 * Updates a peak-sensitive moving average: a slower round trip counts at once, a faster one only gradually.
 * Source: Finagle, "Beyond Round Robin: Load Balancing for Latency" (peak EWMA).
 */
export function recordRoundTrip(latency: Latency, roundTrip: number, now: number): void {
  const age = Math.max(0, now - latency.updatedAt)
  const weight = Math.exp(-age / DECAY_MS)
  latency.cost =
    roundTrip > latency.cost ? roundTrip : latency.cost * weight + roundTrip * (1 - weight)
  latency.updatedAt = now
}

/** The average, decayed to the present. */
function decayedCost({ cost, updatedAt }: Latency, now: number): number {
  return cost * Math.exp(-Math.max(0, now - updatedAt) / DECAY_MS)
}

/**
 * Records that a request was cancelled after `waited` ms without a response, as the slower copy of a hedged request is.
 * The response would have taken longer, by an unknown time, so twice the wait is recorded. Without this, a target whose
 * late responses are never waited for would look fast.
 */
export function recordAbandoned(latency: Latency, waited: number, now: number): void {
  if (waited <= decayedCost(latency, now)) return
  latency.cost = 2 * waited
  latency.updatedAt = now
}

/**
 * The expected wait at a target: its decayed round trip, or the age of its oldest unanswered request if that is more,
 * times its requests. So a target that falls silent counts as slow before its first late response.
 * The time is squared, because the slots of a target serve in parallel: an idle target that is ten times slower must not
 * win against targets with nine requests each.
 */
function estimateLoad({ latency, askedAt, inFlight }: Candidate, now: number): number {
  const time = Math.max(decayedCost(latency, now), now - askedAt)
  return time * time * (inFlight + 1) + inFlight * 1e-6
}

/** Random draws of a free target before all targets are searched. */
const MAX_DRAWS = 8

/** Index of a free target, each with the same chance, other than `avoid` and `not`; -1 if there is none. */
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
 * Of two free targets drawn at random, the one with the shorter expected wait by peak EWMA.
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
 * The free target with the highest hash of (hash slot of the key, id). Each hash slot has its own order of targets, so a
 * target that is added or removed moves only the keys that it gets or had.
 * Source: Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates" (1998), rendezvous hashing.
 */
export const rendezvous: Pick = (targets, { affinity = '', avoid, hashSlots }) => {
  const slot = hashSlotOf(affinity)
  // Nearly always the first target has a free slot, and no search is needed.
  const first = hashSlots?.firstTarget(slot) ?? -1
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

/** Which of the ready instances with a free place takes the next request: pure picks, randomness handed in. */

/** What a pick reads of a target. */
export interface Candidate {
  readonly id: string
  readonly open: boolean
  readonly places: number
  readonly inFlight: number
  readonly latency: Latency
}

/** A peak-sensitive moving average of round-trip times, in ms. */
export interface Latency {
  cost: number
  /** When `cost` was last brought up to date. */
  at: number
}

export interface PickFacts {
  /** Counts up by one with each pick: where a search starts, so that ties rotate. */
  readonly turn: number
  readonly now: number
  /** Uniform in [0, 1). */
  readonly random: () => number
  /** Requests with the same key go to the same instance as long as it has a free place. */
  readonly affinity: string | undefined
  /** Index of a target that has just failed this request: taken only if there is no other. -1 for none. */
  readonly avoid: number
}

/** Index of the target to use, or -1 if none has a free place. */
export type Pick = (targets: readonly Candidate[], facts: PickFacts) => number

function isFree(target: Candidate): boolean {
  return target.open && target.inFlight < target.places
}

/** The free target with the fewest requests in flight; ties go round. Stops at the first idle one. */
export const leastInFlight: Pick = (targets, { turn, avoid }) => {
  const count = targets.length
  let best = -1
  let fewest = Number.POSITIVE_INFINITY
  for (let step = 0, index = turn % count; step < count; step++) {
    const target = targets[index] as Candidate
    if (target.inFlight < fewest && isFree(target) && index !== avoid) {
      best = index
      fewest = target.inFlight
      if (fewest === 0) break
    }
    if (++index === count) index = 0
  }
  return best === -1 ? fallback(targets, avoid) : best
}

/** The free targets in turn. */
export const roundRobin: Pick = (targets, { turn, avoid }) => {
  const count = targets.length
  for (let step = 0; step < count; step++) {
    const index = (turn + step) % count
    if (index !== avoid && isFree(targets[index] as Candidate)) return index
  }
  return fallback(targets, avoid)
}

/** How long, in ms, an average remembers: Finagle's default. */
const TAU = 10_000

/**
 * Brings a peak EWMA up to date: a slower answer counts at once, a faster one only by and by.
 * Source: Finagle, "Beyond Round Robin: Load Balancing for Latency" (peak EWMA).
 */
export function observe(latency: Latency, roundTrip: number, now: number): void {
  const age = Math.max(0, now - latency.at)
  const weight = Math.exp(-age / TAU)
  latency.cost =
    roundTrip > latency.cost ? roundTrip : latency.cost * weight + roundTrip * (1 - weight)
  latency.at = now
}

/** Expected wait on a target: its remembered round trip, faded with time, for each request that it has. */
function load({ latency, inFlight }: Candidate, now: number): number {
  const faded = latency.cost * Math.exp(-Math.max(0, now - latency.at) / TAU)
  return faded * (inFlight + 1) + inFlight * 1e-6
}

/**
 * Of two free targets drawn at random, the one that promises the shorter wait by peak EWMA.
 * Source: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001); Finagle's `p2cPeakEwma`.
 */
export const peakEwma: Pick = (targets, { now, random, avoid }) => {
  const free: number[] = []
  for (let index = 0; index < targets.length; index++) {
    if (index !== avoid && isFree(targets[index] as Candidate)) free.push(index)
  }
  if (free.length < 2) return free[0] ?? fallback(targets, avoid)
  const one = Math.floor(random() * free.length)
  const other = (one + 1 + Math.floor(random() * (free.length - 1))) % free.length
  const a = free[one] as number
  const b = free[other] as number
  return load(targets[b] as Candidate, now) < load(targets[a] as Candidate, now) ? b : a
}

/**
 * The free target with the highest hash of (key, id): each key has its own order of preference, so that a target
 * that comes or goes moves only the keys that it gets or had.
 * Source: Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates" (1998), rendezvous hashing.
 */
export const rendezvous: Pick = (targets, { affinity = '', avoid }) => {
  let best = -1
  let highest = -1
  const seed = hash(affinity, 0x811c9dc5)
  for (let index = 0; index < targets.length; index++) {
    const target = targets[index] as Candidate
    if (index === avoid || !isFree(target)) continue
    const score = mix(hash(target.id, seed))
    if (score > highest) {
      highest = score
      best = index
    }
  }
  return best === -1 ? fallback(targets, avoid) : best
}

function fallback(targets: readonly Candidate[], avoid: number): number {
  return avoid >= 0 && isFree(targets[avoid] as Candidate) ? avoid : -1
}

/** FNV-1a, 32 bits. */
function hash(text: string, seed: number): number {
  let value = seed
  for (let index = 0; index < text.length; index++) {
    value = Math.imul(value ^ text.charCodeAt(index), 0x01000193)
  }
  return value >>> 0
}

/** The finaliser of MurmurHash3: FNV alone leaves the high bits of short ids too alike to rank by. */
function mix(value: number): number {
  let h = value
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

export const PICKS = {
  'least-in-flight': leastInFlight,
  'round-robin': roundRobin,
  'peak-ewma': peakEwma,
} as const satisfies Record<string, Pick>

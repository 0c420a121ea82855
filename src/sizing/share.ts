/** Shares a budget of instances among the services of a session. Pure, and stable. */
import { ManyhostError } from '../core/errors.ts'

/** What one service needs from the budget. */
export interface InstanceDemand {
  /** Instances that its size wants, whole. */
  readonly wanted: number
  readonly minSize: number
  /** Instances that it has now, in whatever state of life. */
  readonly running: number
  /** Requests that wait or are in flight. A service with none is idle. */
  readonly load: number
  /** Since when the service is idle, on the clock of `now()`. Not used while it is busy. */
  readonly idleSince: number
}

/** Weight of the load on a running instance, compared with that on an instance that would have to start. */
const RUNNING_WEIGHT = 1.2

/**
 * Instances for each demand, in the order of the demands: never above what it wants, in sum never above the budget,
 * and nothing of the budget left over while somebody wants it. In this order:
 *
 * 1. each busy service gets one, the most loaded first;
 * 2. the min sizes, the most loaded service first, then the idle ones, those idle for the shortest time first;
 * 3. one at a time, the busy service whose instances have the most load each (Adams' method of apportionment: as
 *    water finds its level);
 * 4. idle services: each what it wants, those idle for the shortest time first. So an idle service keeps more than
 *    its min size only as far as no busy one lacks an instance, and the one idle the longest gives way first.
 *
 * A load counts for 1.2 times as much on an instance that runs already, so that two services of nearly the same load
 * do not take an instance from each other at every read; with this, the shares that follow from shares already
 * granted are the same shares.
 *
 * @throws ManyhostError MANYHOST_INVALID_OPTION for a budget that is not a whole number from 0 up, or `Infinity`
 */
export function shareInstances(budget: number, demands: readonly InstanceDemand[]): number[] {
  if (!(budget >= 0 && (Number.isInteger(budget) || budget === Infinity))) {
    const message = `budget.instances must be a whole number from 0 up, got ${String(budget)}`
    throw new ManyhostError('MANYHOST_INVALID_OPTION', message)
  }
  const shares = demands.map(({ wanted }) => wanted)
  if (sumOf(shares) <= budget) return shares
  return apportion(budget, demands)
}

interface ShareClaim extends InstanceDemand {
  share: number
}

function apportion(budget: number, demands: readonly InstanceDemand[]): number[] {
  const claims: ShareClaim[] = demands.map((demand) => ({ ...demand, share: 0 }))
  // Sorts are stable: of equals, the first comes first.
  const busy = claims
    .filter((claim) => claim.load > 0)
    .toSorted((a, b) => weightedLoad(b) - weightedLoad(a))
  const ranked = claims.toSorted(compareByLoad)
  let left = budget
  const raise = (claim: ShareClaim, to: number): void => {
    const more = Math.min(left, Math.max(0, Math.min(to, claim.wanted) - claim.share))
    claim.share += more
    left -= more
  }
  for (const claim of busy) raise(claim, 1)
  for (const claim of ranked) raise(claim, claim.minSize)
  while (left > 0) {
    const neediest = mostLoaded(busy)
    if (!neediest) break
    raise(neediest, neediest.share + 1)
  }
  for (const claim of ranked) raise(claim, claim.wanted)
  return claims.map((claim) => claim.share)
}

function mostLoaded(busy: readonly ShareClaim[]): ShareClaim | undefined {
  let neediest: ShareClaim | undefined
  for (const claim of busy) {
    if (
      claim.share < claim.wanted &&
      (!neediest || loadPerInstance(claim) > loadPerInstance(neediest))
    )
      neediest = claim
  }
  return neediest
}

/** Load on each instance granted so far. */
function loadPerInstance({ load, share, running }: ShareClaim): number {
  return ((share < running ? RUNNING_WEIGHT : 1) * load) / share
}

function weightedLoad({ load, running }: ShareClaim): number {
  return (running > 0 ? RUNNING_WEIGHT : 1) * load
}

/** The most loaded first; among the idle, the one idle for the shortest time first. */
function compareByLoad(a: ShareClaim, b: ShareClaim): number {
  return b.load - a.load || b.idleSince - a.idleSince
}

function sumOf(numbers: readonly number[]): number {
  return numbers.reduce((total, n) => total + n, 0)
}

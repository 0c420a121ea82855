/** Plans what to do next, from the wanted size and the present instances. Pure: the cluster's loop carries the plan out. */
import { backoffDelay } from '../core/backoff.ts'
import type { InstanceState } from '../core/events.ts'
import { isLive, isUp } from './lifecycle.ts'

export interface ReconcileInstance {
  readonly id: string
  readonly state: InstanceState
  readonly inFlight: number
  /** When it was created. Younger instances give way first. */
  readonly startedAt: number
}

export interface ReconcileInput {
  readonly wanted: number
  readonly instances: readonly ReconcileInstance[]
  readonly maxStarting: number
  /** How many more instances there may be now. Instances that are ending still count. */
  readonly available: number
  /** The earliest time of the next start, after failures. */
  readonly startAt: number
  readonly now: number
}

export interface ReconcilePlan {
  /** How many instances to create. They are pending at first. */
  readonly create: number
  /** Pending instances that may start now. */
  readonly start: readonly string[]
  /** How many of the newly created instances may start now. */
  readonly startable: number
  /** Instances that are not up yet and not wanted any more. */
  readonly cancel: readonly string[]
  /** Instances that are to finish their requests and then stop. */
  readonly drain: readonly string[]
}

/** The states in the order in which instances give way. In one state, those with fewer requests give way first. */
const RETIREMENT_ORDER: readonly InstanceState[] = ['pending', 'starting', 'unready', 'ready']

export function reconcile(input: ReconcileInput): ReconcilePlan {
  const { wanted, instances, maxStarting, available, startAt, now } = input
  const live = instances.filter(({ state }) => isLive(state))
  const surplus = live.length - wanted
  const leaving = surplus > 0 ? live.sort(compareForRetirement).slice(0, surplus) : []
  const gone = new Set(leaving.map(({ id }) => id))
  const kept = live.filter(({ id }) => !gone.has(id))
  const starting = kept.filter(({ state }) => state === 'starting').length
  const freeStarts = now < startAt ? 0 : Math.max(0, maxStarting - starting)
  const pending = kept.filter(({ state }) => state === 'pending')
  const start = pending.slice(0, freeStarts)
  // Only instances that may start soon are created, so that a size of a thousand million costs no memory.
  const soon = maxStarting - starting - pending.length
  return {
    create: Math.max(0, Math.min(-surplus, available, soon)),
    start: start.map(({ id }) => id),
    startable: freeStarts - start.length,
    cancel: leaving.filter(({ state }) => !isUp(state)).map(({ id }) => id),
    drain: leaving.filter(({ state }) => isUp(state)).map(({ id }) => id),
  }
}

function compareForRetirement(a: ReconcileInstance, b: ReconcileInstance): number {
  return (
    RETIREMENT_ORDER.indexOf(a.state) - RETIREMENT_ORDER.indexOf(b.state) ||
    a.inFlight - b.inFlight ||
    b.startedAt - a.startedAt
  )
}

/** Milliseconds between two failing starts. */
const START_BACKOFF = { min: 100, max: 30_000 }

/** Milliseconds to wait after the `failures`-th failing start in a row; 0 if there was none. */
export function startBackoff(failures: number, random: () => number): number {
  return failures <= 0 ? 0 : backoffDelay(failures - 1, START_BACKOFF, random)
}

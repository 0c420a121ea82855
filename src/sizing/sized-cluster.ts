/** The part of a cluster that a size may read: types only. */
import type { InstanceState } from '../core/events.ts'

/** The part of a cluster that a size may read. `Cluster` implements it. */
export interface SizedCluster {
  /** Virtual URL of the service. */
  readonly url: string
  /** Wanted instances now, as the last good read left it. */
  readonly size: number
  readonly minSize: number
  /** May be `Infinity`. */
  readonly maxSize: number
  /** Slots of one instance: requests that it serves at a time. */
  readonly concurrency: number
  readonly instances: readonly SizedInstance[]
  /** Requests that wait for a slot; `oldestAge` in milliseconds, 0 when none waits. */
  readonly requestQueue: {
    readonly size: number
    readonly isEmpty: boolean
    readonly oldestAge: number
  }
  /** Requests that an instance serves now. */
  readonly inFlight: number
  stats(): ClusterStats
}

export interface SizedInstance {
  readonly id: string
  readonly state: InstanceState
  readonly inFlight: number
  readonly startedAt: number
  readonly provider: string
}

/** Counts since the service was registered; they only grow. */
export interface ClusterStats {
  /** Requests that came. */
  readonly arrivals: number
  /** Requests that an instance answered, whatever the status. */
  readonly completions: number
  readonly failures: number
  readonly resends: number
  /** Milliseconds from the call to the end of the response, over the recent requests; 0 before the first. */
  readonly latency: {
    readonly p50: number
    readonly p90: number
    readonly p99: number
    readonly mean: number
  }
}

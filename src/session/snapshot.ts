/** The state of a session as plain data, for people, the admin pages and tests. */
import type { Cluster } from '../cluster/cluster.ts'
import type { InstanceState } from '../core/events.ts'
import { wallClock } from '../core/time.ts'
import type { TrafficStats } from '../dispatch/stats.ts'

export interface InstanceSnapshot {
  readonly id: string
  readonly state: InstanceState
  readonly provider: string
  readonly address: string | null
  readonly inFlight: number
  readonly served: number
  /** Milliseconds since 1970. */
  readonly startedAt: number
}

export interface ClusterSnapshot {
  readonly url: string
  /** Wanted instances. */
  readonly size: number
  readonly minSize: number
  /** null for no limit. */
  readonly maxSize: number | null
  readonly concurrency: number
  readonly inFlight: number
  readonly queue: { readonly size: number; readonly oldestAge: number }
  readonly instances: readonly InstanceSnapshot[]
  /** Why the service refuses requests, or why the last start failed. */
  readonly failure: string | null
  readonly stats: TrafficStats
}

export interface Snapshot {
  /** Milliseconds since 1970. */
  readonly at: number
  readonly clusters: readonly ClusterSnapshot[]
}

export function takeSnapshot(clusters: Iterable<Cluster>): Snapshot {
  return { at: wallClock(), clusters: [...clusters].map(takeClusterSnapshot) }
}

export function takeClusterSnapshot(cluster: Cluster): ClusterSnapshot {
  return {
    url: cluster.url,
    size: cluster.size,
    minSize: cluster.minSize,
    maxSize: Number.isFinite(cluster.maxSize) ? cluster.maxSize : null,
    concurrency: cluster.concurrency,
    inFlight: cluster.inFlight,
    queue: { size: cluster.requestQueue.size, oldestAge: cluster.requestQueue.oldestAge },
    instances: cluster.instances.map((instance) => ({
      id: instance.id,
      state: instance.state,
      provider: instance.provider,
      address: instance.address ?? null,
      inFlight: instance.inFlight,
      served: instance.target?.served ?? 0,
      startedAt: instance.startedAt,
    })),
    failure: cluster.failure?.message ?? null,
    stats: cluster.stats(),
  }
}

/** A row of figures for each cluster, for the event stream. A row is sent again only if one of its figures has changed. */

import type { Cluster } from '../../cluster/cluster.ts'
import type { InstanceState } from '../../core/events.ts'
import { shortestNames } from './cluster-names.ts'

export interface ClusterRow {
  readonly name: string
  readonly url: string
  /** Wanted instances. */
  readonly size: number
  readonly minSize: number
  readonly maxSize: number | null
  readonly concurrency: number
  readonly states: Readonly<Partial<Record<InstanceState, number>>>
  readonly inFlight: number
  /** Waiting requests. */
  readonly queue: number
  /** Milliseconds for which the oldest of them has waited. */
  readonly oldestAge: number
  /** Requests per second that ended. */
  readonly rate: number
  /** Requests per second that failed. */
  readonly failing: number
  /** Resends so far. */
  readonly resends: number
  /** Milliseconds, of the last requests; null if none ended since the last row. */
  readonly p50: number | null
  readonly p99: number | null
  readonly failure: string | null
}

export interface ClusterRowChanges {
  readonly clusters: readonly ClusterRow[]
  /** URLs of clusters that no longer exist. */
  readonly gone: readonly string[]
}

interface EndedCounts {
  readonly ended: number
  readonly failed: number
}

const MAX_FAILURE_LENGTH = 2_000

export class ClusterRows {
  readonly #counts = new WeakMap<Cluster, EndedCounts>()
  /** By URL: the row, and its text as it was sent last. */
  #rows = new Map<string, { row: ClusterRow; text: string }>()

  get all(): ClusterRow[] {
    return [...this.#rows.values()].map(({ row }) => row)
  }

  /** Reads all clusters. @param seconds time since the last call, for the rates */
  read(clusters: readonly Cluster[], seconds: number): ClusterRowChanges {
    const names = shortestNames(clusters)
    const before = this.#rows
    this.#rows = new Map()
    const changed: ClusterRow[] = []
    for (const cluster of clusters) {
      const row = this.#row(cluster, names.get(cluster.url) ?? cluster.url, seconds)
      const text = JSON.stringify(row)
      if (before.get(cluster.url)?.text !== text) changed.push(row)
      this.#rows.set(cluster.url, { row, text })
    }
    return { clusters: changed, gone: [...before.keys()].filter((url) => !this.#rows.has(url)) }
  }

  #row(cluster: Cluster, name: string, seconds: number): ClusterRow {
    const { completions, failures, latency, resends } = cluster.stats()
    const counts = { ended: completions + failures, failed: failures }
    const last = this.#counts.get(cluster) ?? counts
    this.#counts.set(cluster, counts)
    const ended = counts.ended - last.ended
    return {
      name,
      url: cluster.url,
      size: cluster.size,
      minSize: cluster.minSize,
      maxSize: Number.isFinite(cluster.maxSize) ? cluster.maxSize : null,
      concurrency: cluster.concurrency,
      states: countStates(cluster),
      inFlight: cluster.inFlight,
      queue: cluster.requestQueue.size,
      oldestAge: Math.round(cluster.requestQueue.oldestAge),
      rate: perSecond(ended, seconds),
      failing: perSecond(counts.failed - last.failed, seconds),
      resends,
      p50: ended > 0 ? roundToThreeDigits(latency.p50) : null,
      p99: ended > 0 ? roundToThreeDigits(latency.p99) : null,
      failure: cluster.failure?.message.slice(0, MAX_FAILURE_LENGTH) ?? null,
    }
  }
}

function countStates({ instances }: Cluster): Partial<Record<InstanceState, number>> {
  const counts: Partial<Record<InstanceState, number>> = {}
  for (const { state } of instances) counts[state] = (counts[state] ?? 0) + 1
  return counts
}

function perSecond(count: number, seconds: number): number {
  return seconds > 0 ? Math.round((count / seconds) * 10) / 10 : 0
}

/** Rounded, because noise in further digits would change every row. */
function roundToThreeDigits(ms: number): number {
  return Number(ms.toPrecision(3))
}

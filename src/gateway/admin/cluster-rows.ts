/** What the event stream says of each cluster: a row of figures, told again only when one of them has changed. */

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
  /** Requests that wait, and for how many ms the first of them does. */
  readonly queue: number
  readonly oldestAge: number
  /** Requests that ended per second, and those of them that failed. */
  readonly rate: number
  readonly failing: number
  /** Resends so far. */
  readonly resends: number
  /** Milliseconds, of the last requests; null when none ended since the last row. */
  readonly p50: number | null
  readonly p99: number | null
  readonly failure: string | null
}

export interface ClusterRowChanges {
  readonly clusters: readonly ClusterRow[]
  /** URLs of clusters that are there no more. */
  readonly gone: readonly string[]
}

interface EndedCounts {
  readonly ended: number
  readonly failed: number
}

const MAX_FAILURE_LENGTH = 2_000

export class ClusterRows {
  readonly #counts = new WeakMap<Cluster, EndedCounts>()
  /** By URL: the row, and its text as it was told last. */
  #rows = new Map<string, { row: ClusterRow; text: string }>()

  get all(): ClusterRow[] {
    return [...this.#rows.values()].map(({ row }) => row)
  }

  /** Reads all clusters, `seconds` after the last time. */
  read(clusters: readonly Cluster[], seconds: number): ClusterRowChanges {
    const named = shortestNames(clusters)
    const before = this.#rows
    this.#rows = new Map()
    const changed: ClusterRow[] = []
    for (const cluster of clusters) {
      const row = this.#row(cluster, named.get(cluster.url) ?? cluster.url, seconds)
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

/** To three digits: more would be noise that makes each row new. */
function roundToThreeDigits(ms: number): number {
  return Number(ms.toPrecision(3))
}

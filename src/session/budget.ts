/** A session's budget of instances, shared by its services: the idlest gives way. */
import type { Cluster } from '../cluster/cluster.ts'
import { share } from '../sizing/share.ts'

export class Budget {
  readonly #instances: number
  readonly #clusters: () => Iterable<Cluster>
  #asked = false

  constructor(instances: number, clusters: () => Iterable<Cluster>) {
    this.#instances = instances
    this.#clusters = clusters
  }

  /** Shares soon: once, however often it is asked in one turn. */
  ask(): void {
    if (this.#asked) return
    this.#asked = true
    queueMicrotask(() => {
      this.#asked = false
      this.share()
    })
  }

  /** How many more instances there may be now. What is on its way out, or being cleared away, still counts. */
  get room(): number {
    let room = this.#instances
    for (const cluster of this.#clusters()) room -= cluster.demand.held
    return room
  }

  /**
   * Tells each cluster how many instances it may have. What one gives up is another's only when it is gone, so that
   * there are never more than the budget, not even while some drain.
   */
  share(): void {
    const clusters = [...this.#clusters()]
    const demands = clusters.map((cluster) => ({
      ...cluster.demand,
      minSize: cluster.minSize,
      idleSince: cluster.lastBusy,
    }))
    const shares = share(this.#instances, demands)
    let free = this.room
    clusters.forEach((cluster, index) => {
      const wanted = shares[index] ?? 0
      const running = demands[index]?.running ?? 0
      const more = Math.max(0, Math.min(wanted - running, free))
      free -= more
      cluster.allow(Math.min(wanted, running + more))
    })
  }
}

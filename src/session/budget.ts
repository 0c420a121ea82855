/** A session's budget of instances, which its services share. The service that has been idle for the longest time gives way. */
import type { Cluster } from '../cluster/cluster.ts'
import { shareInstances } from '../sizing/share.ts'

export class Budget {
  readonly #instances: number
  readonly #clusters: () => Iterable<Cluster>
  #isScheduled = false

  constructor(instances: number, clusters: () => Iterable<Cluster>) {
    this.#instances = instances
    this.#clusters = clusters
  }

  /** Shares the budget soon, and only once for all calls of one turn. */
  scheduleShare(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    queueMicrotask(() => {
      this.#isScheduled = false
      this.shareInstances()
    })
  }

  /** How many more instances there may be now. Instances that are ending still count. */
  get available(): number {
    let available = this.#instances
    for (const cluster of this.#clusters()) available -= cluster.demand.held
    return available
  }

  /**
   * Sets how many instances each cluster may have. An instance that one cluster gives up counts until it is gone, so that
   * there are never more instances than the budget, not even while some drain.
   */
  shareInstances(): void {
    const clusters = [...this.#clusters()]
    const demands = clusters.map((cluster) => ({
      ...cluster.demand,
      minSize: cluster.minSize,
      idleSince: cluster.lastBusy,
    }))
    const shares = shareInstances(this.#instances, demands)
    let free = this.available
    clusters.forEach((cluster, index) => {
      const wanted = shares[index] ?? 0
      const running = demands[index]?.running ?? 0
      const more = Math.max(0, Math.min(wanted - running, free))
      free -= more
      cluster.setAllowance(Math.min(wanted, running + more))
    })
  }
}

import type { InstanceState } from '../../src/core/events.ts'
import type { ClusterStats, SizedCluster, SizedInstance } from '../../src/sizing/size.ts'

/** A cluster whose facts a test sets as it likes. */
export class FakeCluster implements SizedCluster {
  readonly url = 'http://calc'
  size = 0
  minSize = 0
  maxSize = Number.POSITIVE_INFINITY
  concurrency = 1
  instances: SizedInstance[] = []
  queued = 0
  inFlight = 0
  arrivals = 0

  get requestQueue(): SizedCluster['requestQueue'] {
    return { size: this.queued, isEmpty: this.queued === 0, oldestAge: 0 }
  }

  /** So many instances, all in the same state. */
  have(count: number, state: InstanceState = 'ready'): this {
    const instance = { state, inFlight: 0, startedAt: 0, provider: 'fake' }
    this.instances = Array.from({ length: count }, (_, i) => ({ id: `calc-${i + 1}`, ...instance }))
    return this
  }

  stats(): ClusterStats {
    const latency = { p50: 0, p90: 0, p99: 0, mean: 0 }
    return { arrivals: this.arrivals, completions: 0, failures: 0, resends: 0, latency }
  }
}

/** A promise that the test settles. */
export function pending<T>(): {
  promise: Promise<T>
  resolve: (value: T) => void
  reject: (reason: unknown) => void
} {
  let resolve!: (value: T) => void
  let reject!: (reason: unknown) => void
  const promise = new Promise<T>((yes, no) => {
    resolve = yes
    reject = no
  })
  return { promise, resolve, reject }
}

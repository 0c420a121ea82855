/** How the starts of a service went: failures in a row and the wait that they bring, and figures for metrics. */

import type { ManyhostError } from '../core/errors.ts'
import { now } from '../core/time.ts'
import { Histogram } from '../dispatch/histogram.ts'
import { startBackoff } from './reconcile.ts'

export class StartHistory {
  succeededCount = 0
  failedCount = 0
  /** Milliseconds from the start of a start to ready. */
  readonly duration = new Histogram()
  /** The next start may begin no sooner than this, on the clock of `now()`. */
  nextStartAt = 0
  /** Why the last start failed; undefined again after one that succeeded. */
  failure: ManyhostError | undefined
  #consecutiveFailures = 0
  #failingSince = 0
  #lastFailedAt = Number.NEGATIVE_INFINITY
  readonly #random: () => number

  constructor(random: () => number) {
    this.#random = random
  }

  /** When a start failed last, on the clock of `now()`. */
  get lastFailedAt(): number {
    return this.#lastFailedAt
  }

  /** One is ready. Failures in a row go on until it has `proved` to be of use: it may die at once. */
  recordSuccess(duration: number): void {
    this.succeededCount++
    this.duration.record(duration)
    this.nextStartAt = 0
    this.failure = undefined
  }

  /** What came up was of use: failures in a row are over. */
  resetFailures(): void {
    this.#consecutiveFailures = 0
  }

  recordFailure(error: ManyhostError): void {
    const at = now()
    this.failedCount++
    this.failure = error
    this.#lastFailedAt = at
    if (this.#consecutiveFailures === 0) this.#failingSince = at
    // StartHistory that went side by side and failed together are one failure.
    if (at < this.nextStartAt) return
    this.#consecutiveFailures++
    this.nextStartAt = at + startBackoff(this.#consecutiveFailures, this.#random)
  }

  /** Ends the backoff, because the provider has room that it did not have. The starts may have failed for that reason. */
  endBackoff(): void {
    this.nextStartAt = 0
  }

  /** Milliseconds since the first of the failures in a row; 0 when there are none. */
  failingDuration(at: number): number {
    return this.#consecutiveFailures === 0 ? 0 : at - this.#failingSince
  }
}

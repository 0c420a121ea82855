/**
 * What the failures of instances mean for their service. It records them and answers what is to be done; the cluster does
 * it. A failure may mean a pause before the next start, one instance less, or the end of the service (`onStop`), which
 * lasts until a size is set again.
 */
import type { ManyhostError } from '../core/errors.ts'
import type { InstanceState } from '../core/events.ts'
import { now } from '../core/time.ts'
import type { Instance } from './instance.ts'
import type { InstanceSet } from './instance-set.ts'
import type { ClusterSettings } from './settings.ts'
import { StartHistory } from './start-history.ts'

/**
 * What the cluster is to do about a failure:
 * - `none`: nothing but reconcile;
 * - `raise`: the service is over. Requests that wait, and new ones, fail with `failure`;
 * - `stall`: no instance is up and none has come up for `startTimeout`. Requests that have waited that long fail.
 */
export type FailureDecision = 'none' | 'raise' | 'stall'

export class InstanceFailures {
  readonly starts: StartHistory
  readonly #settings: ClusterSettings
  readonly #instances: InstanceSet
  /** Instances that have failed and are not replaced (`onStop: 'ignore'`). */
  #ignored = 0
  #raised: ManyhostError | undefined

  constructor(settings: ClusterSettings, instances: InstanceSet) {
    this.starts = new StartHistory(settings.random)
    this.#settings = settings
    this.#instances = instances
  }

  /** Why the service is over; else why the last start failed. */
  get failure(): ManyhostError | undefined {
    return this.#raised ?? this.starts.failure
  }

  /** The wanted size without instances that are not replaced; 0 for a service that is over. */
  effectiveSize(size: number): number {
    return this.#raised ? 0 : Math.max(0, size - this.#ignored)
  }

  /** Forgets the instances that are not replaced: a new size is wanted in full. */
  resetIgnored(): void {
    this.#ignored = 0
  }

  /** Lets a service that is over go on. @returns false if it was not over */
  clearFailure(): boolean {
    const wasOver = this.#raised !== undefined
    this.#raised = undefined
    return wasOver
  }

  /**
   * Records an instance that has just become `failed`.
   * @param from its state before
   * @param size the size that is set, without instances that replace others
   */
  recordFailure(instance: Instance, from: InstanceState, size: number): FailureDecision {
    const { starts } = this
    if (instance.isProven || this.#instances.hasProvenSince(starts.lastFailedAt))
      starts.resetFailures()
    const failure = instance.failure as ManyhostError
    if (!instance.isProven) starts.recordFailure(failure)
    if (from === 'starting') return this.checkStalled()
    // An instance that failed while it drained was not wanted any more.
    return from === 'draining' ? 'none' : this.#applyOnStop(failure, size)
  }

  #applyOnStop(failure: ManyhostError, size: number): FailureDecision {
    const { onStop } = this.#settings
    if (onStop === 'restart') return 'none'
    if (onStop === 'raise') return this.#raise(failure)
    this.#ignored++
    return size > 0 && this.#ignored >= size ? this.#raise(failure) : 'none'
  }

  #raise(failure: ManyhostError): FailureDecision {
    if (this.#raised) return 'none'
    this.#raised = failure
    return 'raise'
  }

  /** Whether starts have failed for `startTimeout`. Asked at each tick, too: time passes without any failure. */
  checkStalled(): FailureDecision {
    if (!this.starts.failure || this.#instances.isUp) return 'none'
    return this.starts.failingDuration(now()) >= this.#settings.startTimeout ? 'stall' : 'none'
  }
}

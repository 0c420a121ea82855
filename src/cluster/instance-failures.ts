/**
 * What the failures of instances mean for their service: a wait before the next start, an instance less, or that the
 * service is over (`onStop`), until a size is set again.
 */
import type { ManyhostError } from '../core/errors.ts'
import type { InstanceState } from '../core/events.ts'
import { now } from '../core/time.ts'
import type { Instance } from './instance.ts'
import type { InstanceSet } from './instance-set.ts'
import type { ClusterSettings } from './settings.ts'
import { StartHistory } from './start-history.ts'

export interface InstanceFailuresEvents {
  /** The size that is set, without what takes over. */
  size(): number
  /** A start failed. */
  onFailedStart(failure: ManyhostError): void
  /** The service is over: whoever waits or comes is to be told why. */
  onRaised(failure: ManyhostError): void
  /** Nothing is up, and nothing has come up for `startTimeout`: who waits that long is to be told why. */
  onStalled(failure: ManyhostError): void
}

export class InstanceFailures {
  readonly starts: StartHistory
  readonly #settings: ClusterSettings
  readonly #instances: InstanceSet
  readonly #events: InstanceFailuresEvents
  /** Ended instances that are not replaced (`onStop: 'ignore'`). */
  #ignored = 0
  #raised: ManyhostError | undefined

  constructor(settings: ClusterSettings, fleet: InstanceSet, events: InstanceFailuresEvents) {
    this.starts = new StartHistory(settings.random)
    this.#settings = settings
    this.#instances = fleet
    this.#events = events
  }

  /** Why the service is over, or why the last start failed. */
  get failure(): ManyhostError | undefined {
    return this.#raised ?? this.starts.failure
  }

  /** What failures leave of so many wanted instances. */
  effectiveSize(size: number): number {
    return this.#raised ? 0 : Math.max(0, size - this.#ignored)
  }

  /** Another size begins anew with those that were ended and not replaced. */
  resetIgnored(): void {
    this.#ignored = 0
  }

  /** A service that was over goes on. False if it was not. */
  clearFailure(): boolean {
    const wasOver = this.#raised !== undefined
    this.#raised = undefined
    return wasOver
  }

  onFailed(instance: Instance, from: InstanceState): void {
    const { starts } = this
    if (instance.isProven || this.#instances.hasProvenSince(starts.lastFailedAt))
      starts.resetFailures()
    const failure = instance.failure as ManyhostError
    if (!instance.isProven) starts.recordFailure(failure)
    if (from === 'starting') {
      this.#events.onFailedStart(failure)
      this.failStalledRequests()
    } else if (from !== 'draining') this.#applyOnStop(failure)
  }

  /** One that was up and wanted has failed. */
  #applyOnStop(failure: ManyhostError): void {
    const { onStop } = this.#settings
    if (onStop === 'restart') return
    if (onStop === 'raise') return this.#raise(failure)
    this.#ignored++
    const size = this.#events.size()
    if (size > 0 && this.#ignored >= size) this.#raise(failure)
  }

  #raise(failure: ManyhostError): void {
    if (this.#raised) return
    this.#raised = failure
    this.#events.onRaised(failure)
  }

  /** Asked again and again while starts fail: time passes without any of them. */
  failStalledRequests(): void {
    const { failure } = this.starts
    if (!failure || this.#instances.isUp) return
    if (this.starts.failingDuration(now()) >= this.#settings.startTimeout)
      this.#events.onStalled(failure)
  }
}

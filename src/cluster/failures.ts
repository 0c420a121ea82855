/**
 * What the failures of instances mean for their service: a wait before the next start, an instance less, or that the
 * service is over (`onStop`), until a size is set again.
 */
import type { ManyhostError } from '../core/errors.ts'
import type { InstanceState } from '../core/events.ts'
import { now } from '../core/time.ts'
import type { Fleet } from './fleet.ts'
import type { Instance } from './instance.ts'
import type { ClusterSettings } from './settings.ts'
import { Starts } from './starts.ts'

export interface FailuresEvents {
  /** The size that is set, without what takes over. */
  size(): number
  /** A start failed. */
  onFailedStart(failure: ManyhostError): void
  /** The service is over: whoever waits or comes is to be told why. */
  onRaised(failure: ManyhostError): void
  /** Nothing is up, and nothing has come up for `startTimeout`: who waits that long is to be told why. */
  onStalled(failure: ManyhostError): void
}

export class Failures {
  readonly starts: Starts
  readonly #settings: ClusterSettings
  readonly #fleet: Fleet
  readonly #events: FailuresEvents
  /** Ended instances that are not replaced (`onStop: 'ignore'`). */
  #ignored = 0
  #raised: ManyhostError | undefined

  constructor(settings: ClusterSettings, fleet: Fleet, events: FailuresEvents) {
    this.starts = new Starts(settings.random)
    this.#settings = settings
    this.#fleet = fleet
    this.#events = events
  }

  /** Why the service is over, or why the last start failed. */
  get last(): ManyhostError | undefined {
    return this.#raised ?? this.starts.failure
  }

  /** What failures leave of so many wanted instances. */
  leave(size: number): number {
    return this.#raised ? 0 : Math.max(0, size - this.#ignored)
  }

  /** Another size begins anew with those that were ended and not replaced. */
  forget(): void {
    this.#ignored = 0
  }

  /** A service that was over goes on. False if it was not. */
  forgive(): boolean {
    const wasOver = this.#raised !== undefined
    this.#raised = undefined
    return wasOver
  }

  failed(instance: Instance, from: InstanceState): void {
    const { starts } = this
    if (instance.isProven || this.#fleet.hasProvedSince(starts.lastFailedAt)) starts.proved()
    const failure = instance.failure as ManyhostError
    if (!instance.isProven) starts.failed(failure)
    if (from === 'starting') {
      this.#events.onFailedStart(failure)
      this.giveUpOnStalled()
    } else if (from !== 'draining') this.#lost(failure)
  }

  /** One that was up and wanted has failed. */
  #lost(failure: ManyhostError): void {
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
  giveUpOnStalled(): void {
    const { failure } = this.starts
    if (!failure || this.#fleet.isUp) return
    if (this.starts.failingFor(now()) >= this.#settings.startTimeout)
      this.#events.onStalled(failure)
  }
}

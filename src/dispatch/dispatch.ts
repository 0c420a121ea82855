/**
 * The data plane of one service: requests come in by `send`, targets are set by `resize`. It moves requests and knows no
 * provider. `#layers` is the ordered list of what a request passes.
 */
import type { ManyhostError } from '../core/errors.ts'
import type { Outcome } from '../core/events.ts'
import { now } from '../core/time.ts'
import { Attempt, type AttemptObserver } from './attempt.ts'
import { recordAbandoned, recordRoundTrip } from './balance.ts'
import { createBudget } from './budget.ts'
import { deadlineLayer } from './deadline.ts'
import {
  Exchange,
  type ExchangeObserver,
  type RequestInput,
  type ResponseSink,
} from './exchange.ts'
import { type HedgeParts, hedgeLayer } from './hedge.ts'
import { RequestQueue } from './request-queue.ts'
import { type ResendParts, resendLayer, type SendAttempt } from './resend.ts'
import type { DispatchSettings } from './settings.ts'
import { Stats } from './stats.ts'
import type { Target } from './target.ts'
import { trace } from './trace.ts'
import { type FailureReason, isCallerError } from './verdict.ts'

export interface DispatchEvents {
  /** What the cluster is doing, for the message of a request that waited too long: `2 wanted, 0 ready`. */
  explain(): string
  /** Requests began to wait, or none waits any more. */
  onQueueChange(): void
  /** The last request of a closed target has ended. */
  onDrained(target: Target): void
  /** An attempt failed on a target, so the instance should be checked. With `eject` it gets no requests until a probe passes. */
  onSuspect(target: Target, error: Error, eject: boolean): void
  onResend(exchange: Exchange, attempt: Attempt, reason: FailureReason): void
  onSettled(exchange: Exchange, outcome: Outcome, status: number): void
}

/** Responses that are needed before their 95th percentile is used. */
const MIN_COUNT_FOR_P95 = 100

export class Dispatch implements ExchangeObserver, AttemptObserver {
  readonly stats = new Stats()
  readonly queue: RequestQueue
  readonly service: string
  readonly attemptTimeout: number
  readonly #settings: DispatchSettings
  readonly #events: DispatchEvents
  readonly #send: (exchange: Exchange) => void
  readonly #backingOff: ResendParts['backingOff'] = new Set()
  #refuseWith: ManyhostError | undefined

  constructor(settings: DispatchSettings, events: DispatchEvents) {
    this.#settings = settings
    this.#events = events
    this.service = settings.service
    this.attemptTimeout = settings.attemptTimeout
    this.queue = new RequestQueue(settings, {
      onChange: () => events.onQueueChange(),
      onDrained: (target) => events.onDrained(target),
      explain: () => events.explain(),
    })
    this.#send = this.#layers()
  }

  /** The layers that a request passes, outermost first. Each one wraps the next. */
  #layers(): (exchange: Exchange) => void {
    // 1. Deadline. Outermost, because it bounds all attempts, their time in the queue, and the body of the response.
    const deadline = (next: (exchange: Exchange) => void) => deadlineLayer(next, this.#settings)

    // 2. Resend. Inside the deadline, because a further attempt is made only while there is time.
    const resend = (next: SendAttempt) =>
      resendLayer(next, {
        settings: this.#settings,
        budget: createBudget(now()),
        backingOff: this.#backingOff,
        onResend: (exchange, attempt, reason) => {
          this.stats.recordResend(reason)
          this.#events.onResend(exchange, attempt, reason)
        },
      })

    // 3. Hedge, if the service asks for it. Inside resend, because two failed copies are one failed attempt.
    const hedge = (next: SendAttempt) =>
      this.#settings.hedge ? hedgeLayer(next, this.#hedgeParts()) : next

    // 4. Queue. Innermost, because every attempt needs a slot: resends and hedges count as the load that they are. The
    //    attempt waits for a free slot, then goes to the instance that the balance picks.
    const queue: SendAttempt = (exchange, sink, avoid) => new Attempt(exchange, sink, this, avoid)

    return deadline(resend(hedge(queue)))
  }

  /** Sends a request. `sink` gets the response, or the error. */
  send(request: RequestInput, sink: ResponseSink): Exchange {
    const exchange = new Exchange(request, sink, this)
    this.stats.arrivals++
    if (trace.start.hasSubscribers) trace.start.publish({ service: this.service, exchange })
    if (this.#refuseWith) exchange.fail(this.#refuseWith)
    else this.#send(exchange)
    return exchange
  }

  /** Refuses every request from now on with this error; undefined: takes requests again. */
  refuse(error: ManyhostError | undefined): void {
    this.#refuseWith = error
  }

  /** Ends all requests that have waited in the queue for `olderThan` ms. */
  endWaiting(error: ManyhostError, olderThan = 0): void {
    this.queue.clear((attempt) => attempt.end(error), olderThan)
  }

  resize(targets: Target[]): void {
    this.queue.resize(targets)
  }

  /** Ends all requests that wait in the queue or for their next attempt, and every request that comes later. */
  close(error: ManyhostError): void {
    this.refuse(error)
    this.queue.close(error)
    for (const handle of [...this.#backingOff]) handle.end(error)
  }

  /** Takes requests again after `close`. */
  reopen(): void {
    this.refuse(undefined)
    this.queue.reopen()
  }

  /** Whether no request waits and none is in flight. */
  get isIdle(): boolean {
    return this.queue.isEmpty && this.queue.inFlight === 0 && this.#backingOff.size === 0
  }

  // ExchangeObserver: the end of an exchange.

  onSettled(exchange: Exchange, outcome: Outcome, status: number): void {
    const { stats } = this
    stats.recordSettled(exchange.request.method, status, outcome)
    if (outcome === 'answered') {
      const at = now()
      const duration = at - exchange.startedAt
      stats.exemplars.record(stats.duration.record(duration), duration, at, exchange.request)
    }
    if (exchange.sent > 1) stats.executedTwice++
    this.#events.onSettled(exchange, outcome, status)
    if (trace.end.hasSubscribers) {
      trace.end.publish({ service: this.service, exchange, outcome, status })
    }
  }

  // AttemptObserver: what attempts find out about their targets.

  onDequeued(milliseconds: number): void {
    this.stats.queueWait.record(milliseconds)
  }

  onAnswered(target: Target, milliseconds: number): void {
    target.failures = 0
    target.served++
    this.stats.attempt.record(milliseconds)
    if (this.#settings.balance === 'peak-ewma') recordRoundTrip(target.latency, milliseconds, now())
  }

  onAbandoned(target: Target, milliseconds: number): void {
    if (this.#settings.balance === 'peak-ewma') recordAbandoned(target.latency, milliseconds, now())
  }

  onFailed(target: Target, error: Error, reached: boolean): void {
    if (!target.open || isCallerError(error)) return
    target.failures++
    this.#events.onSuspect(target, error, !reached || target.failures >= this.#settings.ejectAfter)
  }

  #hedgeParts(): HedgeParts {
    const after = this.#settings.hedge?.after ?? Number.POSITIVE_INFINITY
    return {
      policy: this.#settings.resend,
      delay: () => {
        if (after !== 'p95') return after
        // A 95th percentile of fewer values would be chance.
        const { duration } = this.stats
        return duration.count < MIN_COUNT_FOR_P95
          ? Number.POSITIVE_INFINITY
          : duration.quantile(0.95)
      },
      hasOtherFree: (target) =>
        this.queue.isEmpty &&
        this.queue.targets.some((other) => other !== target && other.freeSlots > 0),
      onHedge: () => {
        this.stats.hedges++
      },
    }
  }
}

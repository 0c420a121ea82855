/**
 * The data plane of one service: requests come in at `send`, targets come and go by `resize`. It moves requests and
 * knows no provider. What a request passes is the ordered list in `layers`, outermost first.
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
import type { FailureReason } from './verdict.ts'

export interface DispatchEvents {
  /** What the cluster is about, for the message of a request that waited in vain: `2 wanted, 0 ready`. */
  explain(): string
  /** Requests began or ceased to wait. */
  onQueueChange(): void
  /** A closed target has ended its last request. */
  onDrained(target: Target): void
  /** An attempt failed on a target: is it still there? With `eject`, it gets no more requests until a probe passes. */
  onSuspect(target: Target, error: Error, eject: boolean): void
  onResend(exchange: Exchange, attempt: Attempt, reason: FailureReason): void
  onSettled(exchange: Exchange, outcome: Outcome, status: number): void
}

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

  /** The way of a request, read from the bottom: each layer wraps those above its line. */
  #layers(): (exchange: Exchange) => void {
    // Innermost: waits in line for a free place, then goes to the instance that the balance picks. Every attempt
    // passes here, so that resends and hedges count as the load that they are.
    const queued: SendAttempt = (exchange, sink, avoid) => new Attempt(exchange, sink, this, avoid)
    // Inside resend, so that a request whose two copies both failed is one failed attempt, not two.
    const hedged = this.#settings.hedge ? hedgeLayer(queued, this.#hedgeParts()) : queued
    // Inside the deadline: attempts go on only while there is time.
    const resent = resendLayer(hedged, {
      settings: this.#settings,
      budget: createBudget(now()),
      backingOff: this.#backingOff,
      onResend: (exchange, attempt, reason) => {
        this.stats.recordResend(reason)
        this.#events.onResend(exchange, attempt, reason)
      },
    })
    // Outermost: it bounds all attempts, their waiting and the answer's body.
    return deadlineLayer(resent, this.#settings)
  }

  /** Sends a request; the answer goes to `sink`. Everything that goes wrong goes there, too. */
  send(facts: RequestInput, sink: ResponseSink): Exchange {
    const exchange = new Exchange(facts, sink, this)
    this.stats.arrivals++
    if (trace.start.hasSubscribers) trace.start.publish({ service: this.service, exchange })
    if (this.#refuseWith) exchange.fail(this.#refuseWith)
    else this.#send(exchange)
    return exchange
  }

  /** Lets no request in any more: each is refused with this error. */
  refuse(error: ManyhostError | undefined): void {
    this.#refuseWith = error
  }

  /** Ends all requests that wait. */
  endWaiting(error: ManyhostError, olderThan = 0): void {
    this.queue.clear((attempt) => attempt.end(error), olderThan)
  }

  resize(targets: Target[]): void {
    this.queue.resize(targets)
  }

  /** Ends all that waits, in line or between two attempts, and all that would join. */
  close(error: ManyhostError): void {
    this.refuse(error)
    this.queue.close(error)
    for (const trip of [...this.#backingOff]) trip.end(error)
  }

  /** Lets requests in again after `close`. */
  reopen(): void {
    this.refuse(undefined)
    this.queue.reopen()
  }

  /** Nothing waits and nothing is served. */
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

  // AttemptObserver: what attempts say of their targets.

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
      // Without a hundred answers, nobody knows what the slowest twentieth is.
      delay: () => {
        if (after !== 'p95') return after
        const { duration } = this.stats
        return duration.count < 100 ? Number.POSITIVE_INFINITY : duration.quantile(0.95)
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

/** Errors for which the caller is to blame, not the instance. */
function isCallerError(error: Error): boolean {
  const code = String((error as { code?: unknown }).code ?? '')
  return (
    code === 'MANYHOST_BODY_FAILED' ||
    code === 'MANYHOST_TIMEOUT' ||
    code === 'UND_ERR_INVALID_ARG' ||
    code === 'UND_ERR_NOT_SUPPORTED' ||
    code === 'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH'
  )
}

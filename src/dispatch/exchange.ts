/**
 * One request of a caller and its response, over all attempts (RFC 9110 calls the pair an exchange). It has what the
 * layers read of the request, and it settles exactly once.
 */
import type { Duplex } from 'node:stream'
import { type AttemptReport, ManyhostError } from '../core/errors.ts'
import type { Outcome } from '../core/events.ts'
import { now, type Timer } from '../core/time.ts'
import type { Replay } from './replay.ts'
import type { ResendPolicy } from './settings.ts'

/** Header names and values in turn, as undici reports them: bytes, in the order and case of the wire. */
export type RawHeaders = readonly Buffer[]

/** Takes a response. The last call is one of `onError`, `onUpgrade` and `onEnd`, and is made once. */
export interface ResponseSink {
  /** An informational response (1xx); any number of them before the head. */
  onInfo(status: number, headers: RawHeaders, text: string): void
  /** @param whole whether the complete body follows in this turn of the event loop */
  onHead(status: number, headers: RawHeaders, text: string, whole: boolean): void
  onData(chunk: Buffer): void
  onEnd(trailers: RawHeaders): void
  onUpgrade(status: number, headers: RawHeaders, socket: Duplex): void
  onError(error: Error): void
}

/** Steers a request that waits in the queue, is on an instance, or waits for its next attempt. */
export interface CancelHandle {
  /**
   * Starts it. Called once, after the layer above has stored this handle.
   * @param again whether the request was in the queue before
   */
  start(again: boolean): void
  /** Cancels it. Its sink gets no further call. Idempotent. */
  cancel(reason: Error): void
  pause(): void
  resume(): void
}

/** undici's options about the connection, as a user of the dispatcher gave them; null: not given. */
export interface ConnectionOptions {
  /** Milliseconds from the sending of the request to the head of its response; 0: no limit. */
  readonly headersTimeout: number | null
  /** Milliseconds between two chunks of the response's body; 0: no limit. */
  readonly bodyTimeout: number | null
  /** Whether the connection is closed after the response. */
  readonly reset: boolean | null
}

/** The request as the caller gave it. What is undefined comes from the settings of the service. */
export interface RequestInput {
  readonly method: string
  /** Path and query, as on the wire. */
  readonly path: string
  /** Names and values in turn. The exchange owns the array from now on. */
  readonly headers: string[]
  readonly body: string | Uint8Array | Replay | null
  readonly upgrade?: string | undefined
  readonly priority?: number | undefined
  readonly affinity?: string | undefined
  readonly resend?: ResendPolicy | undefined
  /** Whether the caller gave an `Idempotency-Key`: then a request of any method may be repeated. */
  readonly hasIdempotencyKey?: boolean | undefined
  /** Milliseconds for all attempts together, to the end of the response's body; 0: no limit. */
  readonly timeout?: number | undefined
  readonly connection?: ConnectionOptions | undefined
  readonly id: string
}

/** Is notified of the end of an exchange: for metrics and events. */
export interface ExchangeObserver {
  onSettled(exchange: Exchange, outcome: Outcome, status: number): void
}

export class Exchange {
  readonly request: RequestInput
  readonly sink: ResponseSink
  readonly startedAt: number = now()
  /** Attempts that were given to an instance so far. */
  attempts = 0
  /** Attempts that may have been executed: their request was written to a connection. */
  sent = 0
  /** Milliseconds in the queue, over all attempts. */
  queued = 0
  /** When the head of the response came, on the clock of `now()`. */
  headAt = 0
  /** Id of the instance that responded, or that was tried last. */
  instance = ''
  status = 0
  reports: AttemptReport[] | undefined
  handle: CancelHandle | undefined
  timer: Timer | undefined
  settled = false
  #paused = false
  readonly #observer: ExchangeObserver

  constructor(request: RequestInput, sink: ResponseSink, observer: ExchangeObserver) {
    this.request = request
    this.sink = sink
    this.#observer = observer
  }

  /** Whether the caller wants no more data for now. */
  get paused(): boolean {
    return this.#paused
  }

  pause(): void {
    this.#paused = true
    this.handle?.pause()
  }

  resume(): void {
    this.#paused = false
    this.handle?.resume()
  }

  /** Cancels the exchange for its caller or its deadline. The sink gets `reason`. Idempotent. */
  cancel(reason: Error): void {
    if (this.settled) return
    this.handle?.cancel(reason)
    this.fail(reason)
  }

  /** Ends the exchange with an error. */
  fail(error: Error): void {
    if (!this.settle(outcomeOf(error), statusOf(error))) return
    this.sink.onError(error)
  }

  /** Ends the exchange; false if it had ended before. Called before the last call of the sink. */
  settle(outcome: Outcome, status: number): boolean {
    if (this.settled) return false
    this.settled = true
    this.timer?.clear()
    this.handle = undefined
    const { body } = this.request
    if (body !== null && typeof body === 'object' && 'dispose' in body) body.dispose()
    this.#observer.onSettled(this, outcome, status)
    return true
  }

  /** Records how an attempt ended. */
  addReport(report: AttemptReport): void {
    if (this.reports) this.reports.push(report)
    else this.reports = [report]
  }
}

function outcomeOf(error: Error): Outcome {
  if (!(error instanceof ManyhostError)) return 'aborted'
  switch (error.code) {
    case 'MANYHOST_ABORTED':
      return 'aborted'
    case 'MANYHOST_TIMEOUT':
    case 'MANYHOST_QUEUE_TIMEOUT':
      return 'expired'
    case 'MANYHOST_QUEUE_FULL':
    case 'MANYHOST_SESSION_CLOSED':
      return 'refused'
    default:
      return 'failed'
  }
}

function statusOf(error: Error): number {
  return error instanceof ManyhostError ? error.status : 499
}

/**
 * One request and its answer, over all attempts (RFC 9110 calls the pair an exchange). It carries the facts that the
 * layers read, and settles exactly once, whatever happens.
 */
import type { Duplex } from 'node:stream'
import { type AttemptReport, ManyhostError } from '../core/errors.ts'
import type { Outcome } from '../core/events.ts'
import { now, type Timer } from '../core/time.ts'
import type { Replay } from './replay.ts'
import type { ResendPolicy } from './settings.ts'

/** Header names and values in turn, as undici reports them: bytes, in the order and case of the wire. */
export type RawHeaders = readonly Buffer[]

/** Takes an answer. Either `onError`, or `onUpgrade`, or `onEnd` is the last call, and comes once. */
export interface ResponseSink {
  /** An informational answer (1xx); any number of them, before the head. */
  onInfo(status: number, headers: RawHeaders, text: string): void
  /** @param whole whether all of the body follows before control is given back */
  onHead(status: number, headers: RawHeaders, text: string, whole: boolean): void
  onData(chunk: Buffer): void
  onEnd(trailers: RawHeaders): void
  onUpgrade(status: number, headers: RawHeaders, socket: Duplex): void
  onError(error: Error): void
}

/** A request on its way: in a queue, on an instance, or waiting for its next attempt. */
export interface CancelHandle {
  /** Sets out; `again` says that the request was under way before. Called once, after the trip is known above. */
  start(again: boolean): void
  /** Gives it up; its sink hears no more. Idempotent. */
  cancel(reason: Error): void
  pause(): void
  resume(): void
}

/** What a user of the dispatcher asks of the connection to the instance, by undici's own options; null: nothing. */
export interface ConnectionOptions {
  /** Milliseconds from the sending of the request to the head of its answer; 0 is no limit. */
  readonly headersTimeout: number | null
  /** Milliseconds between two parts of the answer's body; 0 is no limit. */
  readonly bodyTimeout: number | null
  /** Whether the connection is closed after the answer. */
  readonly reset: boolean | null
}

/** What the caller asks for; the rest comes from the service's settings. */
export interface RequestInput {
  readonly method: string
  /** Path and query, as on the wire. */
  readonly path: string
  /** Names and values in turn. Owned by the exchange from here on. */
  readonly headers: string[]
  readonly body: string | Uint8Array | Replay | null
  readonly upgrade?: string | undefined
  readonly priority?: number | undefined
  readonly affinity?: string | undefined
  readonly resend?: ResendPolicy | undefined
  /** Whether the caller gave an `Idempotency-Key`: then any method may be repeated. */
  readonly hasIdempotencyKey?: boolean | undefined
  /** Milliseconds for all attempts together, to the end of the answer's body; 0 is no limit. */
  readonly timeout?: number | undefined
  readonly connection?: ConnectionOptions | undefined
  readonly id: string
}

/** Hears of the end of an exchange: metrics, events. */
export interface ExchangeObserver {
  onSettled(exchange: Exchange, outcome: Outcome, status: number): void
}

export class Exchange {
  readonly request: RequestInput
  readonly sink: ResponseSink
  readonly startedAt: number = now()
  /** Attempts that were given to an instance so far. */
  attempts = 0
  /** Attempts that may have been executed: their request was put on a connection. */
  sent = 0
  /** Milliseconds in the queue, over all attempts. */
  queued = 0
  /** When the answer's head came, on the clock of `now()`. */
  headAt = 0
  /** Id of the instance that answered, or was tried last. */
  instance = ''
  status = 0
  reports: AttemptReport[] | undefined
  handle: CancelHandle | undefined
  timer: Timer | undefined
  settled = false
  #paused = false
  readonly #observer: ExchangeObserver

  constructor(facts: RequestInput, sink: ResponseSink, ledger: ExchangeObserver) {
    this.request = facts
    this.sink = sink
    this.#observer = ledger
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

  /** The caller gives up (or its deadline does). The sink hears `reason`. Idempotent. */
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

  /** Ends the exchange; false when it had ended already. Called before the sink hears of the end. */
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

  /** Writes down how an attempt ended. */
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

/**
 * Sends a request again when the instance that had it failed, as often as the service allows. A short answer is held
 * until it is whole, so that a death in the middle of it can be made good; a longer one is passed on as it comes, and
 * a death then ends it with an error that says so.
 */
import type { Duplex } from 'node:stream'
import { describe, ManyhostError } from '../core/errors.ts'
import { after, now, type Timer } from '../core/time.ts'
import type { Attempt, AttemptSink } from './attempt.ts'
import { type BudgetState, backoff, deposit, withdraw } from './budget.ts'
import { BodyDrain } from './drain.ts'
import type { Exchange, RawHeaders, Trip } from './exchange.ts'
import { bodyLength, isRedirect, isReturned } from './raw.ts'
import type { DispatchSettings } from './settings.ts'
import type { Target } from './target.ts'
import {
  blameOf,
  type FailureReason,
  mayRepeat,
  reasonOf,
  type Verdict,
  verdict,
} from './verdict.ts'

/** Puts a request on its way to an instance. The trip that it answers has not started yet. */
export type Send = (exchange: Exchange, sink: AttemptSink, avoid: Target | undefined) => Trip

export interface ResendParts {
  readonly settings: DispatchSettings
  readonly budget: BudgetState
  /** Requests that wait for the time of their next attempt. */
  readonly pausing: Set<Trip & { end(error: Error): void }>
  resent(exchange: Exchange, attempt: Attempt, reason: FailureReason): void
}

/** @returns the way of a request through all its attempts. */
export function resend(next: Send, parts: ResendParts): (exchange: Exchange) => void {
  return (exchange) => {
    deposit(parts.budget)
    new Resending(exchange, next, parts).launch(undefined, false)
  }
}

class Resending implements AttemptSink, Trip {
  readonly #exchange: Exchange
  readonly #next: Send
  readonly #parts: ResendParts
  #trip: Trip | undefined
  #pause: Timer | undefined
  #passedOn = false
  /** A held answer. */
  #held:
    | { readonly status: number; readonly headers: RawHeaders; readonly text: string }
    | undefined
  #chunks: Buffer[] | undefined
  /** Reads the body of an answer by which the instance hands the request back. */
  #returned: BodyDrain | undefined

  constructor(exchange: Exchange, next: Send, parts: ResendParts) {
    this.#exchange = exchange
    this.#next = next
    this.#parts = parts
    exchange.trip = this
  }

  start(): void {}

  /** Ends a wait between two attempts for good. */
  end(error: Error): void {
    this.#wake()
    this.onRefused(error)
  }

  #wake(): void {
    this.#pause?.clear()
    this.#pause = undefined
    this.#parts.pausing.delete(this)
  }

  launch(avoid: Target | undefined, again: boolean): void {
    if (this.#pause) this.#wake()
    this.#held = undefined
    this.#chunks = undefined
    this.#returned = undefined
    this.#trip = this.#next(this.#exchange, this, avoid)
    this.#trip.start(again)
  }

  cancel(reason: Error): void {
    if (this.#pause) this.#wake()
    this.#returned?.stop()
    this.#trip?.cancel(reason)
  }

  pause(): void {
    this.#trip?.pause()
  }

  resume(): void {
    this.#trip?.resume()
  }

  onDispatched(): void {}

  onInfo(status: number, headers: RawHeaders, text: string): void {
    this.#exchange.sink.onInfo(status, headers, text)
  }

  onHead(status: number, headers: RawHeaders, text: string, attempt: Attempt): void {
    const { settings } = this.#parts
    const { facts } = this.#exchange
    if (status === 503 && isReturned(headers)) {
      this.#returned = new BodyDrain(() => this.#onReturned(attempt))
      if (bodyLength(facts.method, status, headers) > 0) this.#returned.start()
      return
    }
    const length = bodyLength(facts.method, status, headers)
    // Nobody needs the body of a redirect. If it broke off or never ended, waiting for it would only repeat or hold up the request.
    if (length <= settings.holdLimit && !isRedirect(status, headers) && this.#mayRepeat()) {
      this.#held = { status, headers, text }
      return
    }
    this.#passOn(status, headers, text, attempt, false)
  }

  #passOn(
    status: number,
    headers: RawHeaders,
    text: string,
    attempt: Attempt,
    whole: boolean,
  ): void {
    this.#passedOn = true
    this.#exchange.status = status
    this.#exchange.instance = attempt.target?.id ?? ''
    this.#exchange.sink.onHead(status, headers, text, whole)
  }

  onData(chunk: Buffer): void {
    if (this.#passedOn) this.#exchange.sink.onData(chunk)
    else if (this.#returned) this.#returned.take(chunk.length)
    else {
      if (this.#chunks) this.#chunks.push(chunk)
      else this.#chunks = [chunk]
    }
  }

  onEnd(trailers: RawHeaders, attempt: Attempt): void {
    const exchange = this.#exchange
    if (this.#returned) return this.#onReturned(attempt)
    const held = this.#held
    const { sink } = exchange
    if (held) this.#passOn(held.status, held.headers, held.text, attempt, true)
    if (held && this.#chunks) for (const chunk of this.#chunks) sink.onData(chunk)
    this.#chunks = undefined
    // The caller may have given up in one of those calls.
    if (exchange.settle('answered', exchange.status)) sink.onEnd(trailers)
  }

  #onReturned(attempt: Attempt): void {
    this.#returned?.stop()
    const text = `${this.#parts.settings.service}: ${attempt.target?.id} handed the request back`
    const error = new ManyhostError('MANYHOST_RETURNED', text)
    // Nothing is left of it, unless its body goes on and on.
    this.#trip?.cancel(error)
    this.onFailed(attempt, error)
  }

  onUpgrade(status: number, headers: RawHeaders, socket: Duplex, attempt: Attempt): void {
    const exchange = this.#exchange
    exchange.status = status
    exchange.instance = attempt.target?.id ?? ''
    if (exchange.settle('answered', status)) exchange.sink.onUpgrade(status, headers, socket)
    else socket.destroy()
  }

  onRefused(error: Error): void {
    const { reports } = this.#exchange
    if (!reports || !(error instanceof ManyhostError)) return this.#exchange.fail(error)
    this.#exchange.fail(
      new ManyhostError(error.code, `${error.message}, after ${told(reports)}`, {
        cause: error.cause ?? reports.at(-1)?.error,
        attempts: reports,
        service: this.#parts.settings.service,
      }),
    )
  }

  onFailed(attempt: Attempt, error: Error): void {
    this.#returned?.stop()
    const exchange = this.#exchange
    const { facts } = exchange
    const { settings, budget } = this.#parts
    const { body } = facts
    const bodyError = body !== null && typeof body === 'object' && 'open' in body && body.error
    const reason = bodyError ? 'caller' : reasonOf(error, attempt.sent, attempt.status > 0)
    exchange.report({
      attempt: attempt.number,
      instance: attempt.target?.id ?? '',
      duration: now() - attempt.startedAt,
      reason,
      error,
    })
    const next = verdict({
      reason,
      sent: attempt.sent,
      passedOn: this.#passedOn,
      method: facts.method,
      keyed: facts.keyed ?? false,
      policy: facts.resend ?? settings.resend,
      attempts: exchange.attempts,
      maxAttempts: settings.maxAttempts,
    })
    if (next !== 'resend') return exchange.fail(this.#error(next, bodyError || error))
    this.#parts.resent(exchange, attempt, reason)
    // What the control plane took away comes to no instance that could be hit too hard by it.
    const taken = reason === 'ended' || reason === 'unhealthy'
    const wait = taken
      ? 0
      : Math.max(withdraw(budget, now()), backoff(exchange.attempts + 1, settings.random))
    if (wait === 0) return this.launch(attempt.target, true)
    this.#parts.pausing.add(this)
    this.#pause = after(wait, () => this.launch(attempt.target, true))
  }

  #mayRepeat(): boolean {
    const { facts } = this.#exchange
    const { settings } = this.#parts
    return mayRepeat(facts.resend ?? settings.resend, facts.method, facts.keyed ?? false)
  }

  #error(next: Exclude<Verdict, 'resend'>, error: Error): ManyhostError {
    const { service } = this.#parts.settings
    const { facts, reports = [] } = this.#exchange
    const what = `${facts.method} ${service} ${facts.path}`
    const details = { cause: error, attempts: reports, service }
    switch (next) {
      case 'closed':
      case 'caller':
        if (error instanceof ManyhostError) return error
        return new ManyhostError(blameOf(error), `${what}: ${describe(error)}`, details)
      case 'interrupted':
        return new ManyhostError(
          'MANYHOST_RESPONSE_INTERRUPTED',
          `${what}: the response broke off after its head was passed on: ${describe(error)}`,
          details,
        )
      case 'refused':
        return new ManyhostError(
          'MANYHOST_BAD_RESPONSE',
          `${what}: ${reports.at(-1)?.instance} answered what is not valid HTTP: ${describe(error)}; the request was not sent again`,
          details,
        )
      case 'forbidden':
        return new ManyhostError(
          'MANYHOST_NOT_RESENT',
          `${what}: ${describe(error)}; it may have been executed and resend is '${facts.resend ?? this.#parts.settings.resend}'`,
          details,
        )
      case 'exhausted':
        return new ManyhostError(
          'MANYHOST_ATTEMPTS_EXHAUSTED',
          `${what}: gave up after ${told(reports)}`,
          details,
        )
    }
  }
}

/** `5 attempts: calc-1 ended (killed by SIGKILL), calc-2 ...` */
function told(reports: readonly { instance: string; reason?: string; error?: Error }[]): string {
  const each = reports.map((r) => `${r.instance} ${r.reason} (${r.error ? describe(r.error) : ''})`)
  return `${reports.length} attempt${reports.length === 1 ? '' : 's'}: ${each.join('; ')}`
}

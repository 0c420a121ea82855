/**
 * Sends a request again if the instance that had it failed, as often as the service allows. A short response is held
 * until it is complete, so that a failure in the middle of it leads to another attempt. A longer response is passed on as
 * it comes. A failure in the middle of that one ends it with an error that says so.
 */
import type { Duplex } from 'node:stream'
import { describeError, ManyhostError } from '../core/errors.ts'
import { after, now, type Timer } from '../core/time.ts'
import type { Attempt, AttemptSink } from './attempt.ts'
import { BodyDrain } from './body-drain.ts'
import { type BudgetState, deposit, resendBackoff, withdraw } from './budget.ts'
import type { CancelHandle, Exchange, RawHeaders } from './exchange.ts'
import { bodyLength, isHandedBack, isRedirect } from './raw-headers.ts'
import type { DispatchSettings } from './settings.ts'
import type { Target } from './target.ts'
import {
  callerErrorCode,
  decideVerdict,
  type FailureReason,
  failureReasonOf,
  mayRepeat,
  type ResendVerdict,
} from './verdict.ts'

/** Creates an attempt. It starts when `start` of the handle is called. */
export type SendAttempt = (
  exchange: Exchange,
  sink: AttemptSink,
  avoid: Target | undefined,
) => CancelHandle

export interface ResendParts {
  readonly settings: DispatchSettings
  readonly budget: BudgetState
  /** Requests that wait for their next attempt. */
  readonly backingOff: Set<CancelHandle & { end(error: Error): void }>
  onResend(exchange: Exchange, attempt: Attempt, reason: FailureReason): void
}

/** @returns sends a request through all its attempts */
export function resendLayer(next: SendAttempt, parts: ResendParts): (exchange: Exchange) => void {
  return (exchange) => {
    deposit(parts.budget)
    new ResendHandle(exchange, next, parts).startAttempt(undefined, false)
  }
}

class ResendHandle implements AttemptSink, CancelHandle {
  readonly #exchange: Exchange
  readonly #next: SendAttempt
  readonly #parts: ResendParts
  #handle: CancelHandle | undefined
  #backoffTimer: Timer | undefined
  #passedOn = false
  /** The head of a response that is held. */
  #heldHead:
    | { readonly status: number; readonly headers: RawHeaders; readonly text: string }
    | undefined
  #heldChunks: Buffer[] | undefined
  /** Reads the body of a response by which the instance hands the request back. */
  #handBackDrain: BodyDrain | undefined

  constructor(exchange: Exchange, next: SendAttempt, parts: ResendParts) {
    this.#exchange = exchange
    this.#next = next
    this.#parts = parts
    exchange.handle = this
  }

  start(): void {}

  /** Ends the wait for the next attempt: there will be none. */
  end(error: Error): void {
    this.#endBackoff()
    this.onRefused(error)
  }

  #endBackoff(): void {
    this.#backoffTimer?.clear()
    this.#backoffTimer = undefined
    this.#parts.backingOff.delete(this)
  }

  startAttempt(avoid: Target | undefined, again: boolean): void {
    if (this.#backoffTimer) this.#endBackoff()
    this.#heldHead = undefined
    this.#heldChunks = undefined
    this.#handBackDrain = undefined
    this.#handle = this.#next(this.#exchange, this, avoid)
    this.#handle.start(again)
  }

  cancel(reason: Error): void {
    if (this.#backoffTimer) this.#endBackoff()
    this.#handBackDrain?.stop()
    this.#handle?.cancel(reason)
  }

  pause(): void {
    this.#handle?.pause()
  }

  resume(): void {
    this.#handle?.resume()
  }

  onDispatched(): void {}

  onInfo(status: number, headers: RawHeaders, text: string): void {
    this.#exchange.sink.onInfo(status, headers, text)
  }

  onHead(status: number, headers: RawHeaders, text: string, attempt: Attempt): void {
    const { settings } = this.#parts
    const { request } = this.#exchange
    if (status === 503 && isHandedBack(headers)) {
      this.#handBackDrain = new BodyDrain(() => this.#onHandedBack(attempt))
      if (bodyLength(request.method, status, headers) > 0) this.#handBackDrain.start()
      return
    }
    const length = bodyLength(request.method, status, headers)
    // No caller needs the body of a redirect, so it is not waited for: one that never ends would block the request.
    if (length <= settings.holdLimit && !isRedirect(status, headers) && this.#mayRepeat()) {
      this.#heldHead = { status, headers, text }
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
    else if (this.#handBackDrain) this.#handBackDrain.count(chunk.length)
    else {
      if (this.#heldChunks) this.#heldChunks.push(chunk)
      else this.#heldChunks = [chunk]
    }
  }

  onEnd(trailers: RawHeaders, attempt: Attempt): void {
    const exchange = this.#exchange
    if (this.#handBackDrain) return this.#onHandedBack(attempt)
    const held = this.#heldHead
    const { sink } = exchange
    if (held) this.#passOn(held.status, held.headers, held.text, attempt, true)
    if (held && this.#heldChunks) for (const chunk of this.#heldChunks) sink.onData(chunk)
    this.#heldChunks = undefined
    // The caller may have cancelled the request in one of these calls.
    if (exchange.settle('answered', exchange.status)) sink.onEnd(trailers)
  }

  #onHandedBack(attempt: Attempt): void {
    this.#handBackDrain?.stop()
    const text = `${this.#parts.settings.service}: ${attempt.target?.id} handed the request back`
    const error = new ManyhostError('MANYHOST_RETURNED', text)
    // If the body has not ended, this closes the connection.
    this.#handle?.cancel(error)
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
      new ManyhostError(error.code, `${error.message}, after ${describeAttempts(reports)}`, {
        cause: error.cause ?? reports.at(-1)?.error,
        attempts: reports,
        service: this.#parts.settings.service,
      }),
    )
  }

  onFailed(attempt: Attempt, error: Error): void {
    this.#handBackDrain?.stop()
    const exchange = this.#exchange
    const { request } = exchange
    const { settings, budget } = this.#parts
    const { body } = request
    const bodyError = body !== null && typeof body === 'object' && 'open' in body && body.error
    const reason = bodyError ? 'caller' : failureReasonOf(error, attempt.sent, attempt.status > 0)
    exchange.addReport({
      attempt: attempt.number,
      instance: attempt.target?.id ?? '',
      duration: now() - attempt.startedAt,
      reason,
      error,
    })
    const next = decideVerdict({
      reason,
      sent: attempt.sent,
      passedOn: this.#passedOn,
      method: request.method,
      hasIdempotencyKey: request.hasIdempotencyKey ?? false,
      policy: request.resend ?? settings.resend,
      attempts: exchange.attempts,
      maxAttempts: settings.maxAttempts,
    })
    if (next !== 'resend') return exchange.fail(this.#buildError(next, bodyError || error))
    this.#parts.onResend(exchange, attempt, reason)
    // No delay if the control plane took the instance away: the resend goes to an instance that has not failed.
    const isTakenAway = reason === 'ended' || reason === 'unhealthy'
    const wait = isTakenAway
      ? 0
      : Math.max(withdraw(budget, now()), resendBackoff(exchange.attempts + 1, settings.random))
    if (wait === 0) return this.startAttempt(attempt.target, true)
    this.#parts.backingOff.add(this)
    this.#backoffTimer = after(wait, () => this.startAttempt(attempt.target, true))
  }

  #mayRepeat(): boolean {
    const { request } = this.#exchange
    const { settings } = this.#parts
    const policy = request.resend ?? settings.resend
    return mayRepeat(policy, request.method, request.hasIdempotencyKey ?? false)
  }

  #buildError(verdict: Exclude<ResendVerdict, 'resend'>, error: Error): ManyhostError {
    const { service } = this.#parts.settings
    const { request, reports = [] } = this.#exchange
    const what = `${request.method} ${service} ${request.path}`
    const details = { cause: error, attempts: reports, service }
    switch (verdict) {
      case 'closed':
      case 'caller':
        if (error instanceof ManyhostError) return error
        return new ManyhostError(
          callerErrorCode(error),
          `${what}: ${describeError(error)}`,
          details,
        )
      case 'interrupted':
        return new ManyhostError(
          'MANYHOST_RESPONSE_INTERRUPTED',
          `${what}: the response broke off after its head was passed on: ${describeError(error)}`,
          details,
        )
      case 'refused':
        return new ManyhostError(
          'MANYHOST_BAD_RESPONSE',
          `${what}: ${reports.at(-1)?.instance} sent a response that is not valid HTTP: ${describeError(error)}; the request was not sent again`,
          details,
        )
      case 'forbidden':
        return new ManyhostError(
          'MANYHOST_NOT_RESENT',
          `${what}: ${describeError(error)}; it may have been executed and resend is '${request.resend ?? this.#parts.settings.resend}'`,
          details,
        )
      case 'exhausted':
        return new ManyhostError(
          'MANYHOST_ATTEMPTS_EXHAUSTED',
          `${what}: gave up after ${describeAttempts(reports)}`,
          details,
        )
    }
  }
}

/** `5 attempts: calc-1 ended (killed by SIGKILL), calc-2 ...` */
function describeAttempts(
  reports: readonly { instance: string; reason?: string; error?: Error }[],
): string {
  const each = reports.map(
    (r) => `${r.instance} ${r.reason} (${r.error ? describeError(r.error) : ''})`,
  )
  return `${reports.length} attempt${reports.length === 1 ? '' : 's'}: ${each.join('; ')}`
}

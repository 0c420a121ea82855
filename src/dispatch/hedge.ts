/**
 * Hedged requests: when an idempotent request has no answer after a while, a second copy goes to another instance and
 * the first answer wins. Only ever on a place that nobody waits for, so that hedges do not make a busy cluster busier.
 * Source: Dean and Barroso, "The Tail at Scale" (2013).
 */
import type { Duplex } from 'node:stream'
import { ManyhostError } from '../core/errors.ts'
import { after, type Timer } from '../core/time.ts'
import type { Attempt, AttemptSink } from './attempt.ts'
import type { CancelHandle, Exchange, RawHeaders } from './exchange.ts'
import type { SendAttempt } from './resend.ts'
import type { ResendPolicy } from './settings.ts'
import type { Target } from './target.ts'
import { isIdempotent } from './verdict.ts'

export interface HedgeParts {
  readonly policy: ResendPolicy
  /** Milliseconds to wait before the second copy; Infinity for not yet known. */
  delay(): number
  /** Whether another instance than this one has a free place that nobody waits for. */
  hasOtherFree(target: Target): boolean
  onHedge(exchange: Exchange): void
}

export function hedgeLayer(next: SendAttempt, parts: HedgeParts): SendAttempt {
  return (exchange, sink, avoid) => {
    const { method, hasIdempotencyKey: keyed, upgrade, resend } = exchange.request
    const never = (resend ?? parts.policy) === 'never'
    if (never || upgrade !== undefined || !(keyed || isIdempotent(method))) {
      return next(exchange, sink, avoid)
    }
    return new Hedge(exchange, sink, avoid, next, parts)
  }
}

class Hedge implements CancelHandle {
  readonly #exchange: Exchange
  readonly #sink: AttemptSink
  readonly #next: SendAttempt
  readonly #parts: HedgeParts
  readonly #copies = new Set<HedgeCopy>()
  #timer: Timer | undefined
  #winner: HedgeCopy | undefined

  constructor(
    exchange: Exchange,
    sink: AttemptSink,
    avoid: Target | undefined,
    next: SendAttempt,
    parts: HedgeParts,
  ) {
    this.#exchange = exchange
    this.#sink = sink
    this.#next = next
    this.#parts = parts
    this.#copies.add(new HedgeCopy(this, this.#exchange, next, avoid))
  }

  start(again: boolean): void {
    for (const leg of this.#copies) leg.handle.start(again)
  }

  cancel(reason: Error): void {
    this.#timer?.clear()
    for (const leg of this.#copies) leg.handle.cancel(reason)
  }

  pause(): void {
    this.#winner?.handle.pause()
  }

  resume(): void {
    this.#winner?.handle.resume()
  }

  get sink(): AttemptSink {
    return this.#sink
  }

  onCopyDispatched(attempt: Attempt): void {
    if (attempt.number === 1 || this.#copies.size === 1) this.#startTimer(attempt.target as Target)
    this.#sink.onDispatched(attempt)
  }

  #startTimer(target: Target): void {
    const delay = this.#parts.delay()
    if (!Number.isFinite(delay)) return
    this.#timer?.clear()
    this.#timer = after(delay, () => {
      if (this.#winner || this.#copies.size !== 1) return
      if (!this.#parts.hasOtherFree(target)) return this.#startTimer(target)
      const leg = new HedgeCopy(this, this.#exchange, this.#next, target)
      this.#copies.add(leg)
      this.#parts.onHedge(this.#exchange)
      leg.handle.start(true)
    })
  }

  /** Whether this leg's answer is the one to pass on; the first to ask is. */
  claimWin(leg: HedgeCopy): boolean {
    if (this.#winner) return this.#winner === leg
    this.#winner = leg
    this.#timer?.clear()
    for (const other of this.#copies) {
      if (other !== leg) {
        other.handle.cancel(
          new ManyhostError('MANYHOST_ABORTED', 'another attempt was answered first'),
        )
      }
    }
    return true
  }

  /** Whether a failed leg was the last one, so that its failure is the trip's. */
  removeFailed(leg: HedgeCopy): boolean {
    this.#copies.delete(leg)
    if (this.#copies.size > 0 && this.#winner !== leg) return false
    this.#timer?.clear()
    return true
  }
}

/** One of the copies. */
class HedgeCopy implements AttemptSink {
  readonly #hedge: Hedge
  readonly handle: CancelHandle

  constructor(owner: Hedge, exchange: Exchange, next: SendAttempt, avoid: Target | undefined) {
    this.#hedge = owner
    this.handle = next(exchange, this, avoid)
  }

  onDispatched(attempt: Attempt): void {
    this.#hedge.onCopyDispatched(attempt)
  }

  onInfo(status: number, headers: RawHeaders, text: string): void {
    this.#hedge.sink.onInfo(status, headers, text)
  }

  onHead(status: number, headers: RawHeaders, text: string, attempt: Attempt): void {
    if (this.#hedge.claimWin(this)) this.#hedge.sink.onHead(status, headers, text, attempt)
  }

  onData(chunk: Buffer, attempt: Attempt): void {
    if (this.#hedge.claimWin(this)) this.#hedge.sink.onData(chunk, attempt)
  }

  onEnd(trailers: RawHeaders, attempt: Attempt): void {
    if (this.#hedge.claimWin(this)) this.#hedge.sink.onEnd(trailers, attempt)
  }

  onUpgrade(status: number, headers: RawHeaders, socket: Duplex, attempt: Attempt): void {
    if (this.#hedge.claimWin(this)) this.#hedge.sink.onUpgrade(status, headers, socket, attempt)
    else socket.destroy()
  }

  onFailed(attempt: Attempt, error: Error): void {
    if (this.#hedge.removeFailed(this)) this.#hedge.sink.onFailed(attempt, error)
  }

  onRefused(error: Error): void {
    if (this.#hedge.removeFailed(this)) this.#hedge.sink.onRefused(error)
  }
}

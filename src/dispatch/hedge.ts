/**
 * Hedged requests: if an idempotent request has no response after a while, a second copy goes to another instance, and
 * the first response wins. A copy is sent only on a slot that no other request waits for, so hedges do not add load to a
 * busy cluster.
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
  /** Milliseconds to wait before the second copy; Infinity if that is not known yet. */
  delay(): number
  /** Whether an instance other than this one has a free slot that no request waits for. */
  hasOtherFree(target: Target): boolean
  onHedge(exchange: Exchange): void
}

export function hedgeLayer(next: SendAttempt, parts: HedgeParts): SendAttempt {
  return (exchange, sink, avoid) => {
    const { method, hasIdempotencyKey, upgrade, resend } = exchange.request
    const isForbidden = (resend ?? parts.policy) === 'never'
    if (isForbidden || upgrade !== undefined || !(hasIdempotencyKey || isIdempotent(method))) {
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
    for (const copy of this.#copies) copy.handle.start(again)
  }

  cancel(reason: Error): void {
    this.#timer?.clear()
    for (const copy of this.#copies) copy.handle.cancel(reason)
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
      const copy = new HedgeCopy(this, this.#exchange, this.#next, target)
      this.#copies.add(copy)
      this.#parts.onHedge(this.#exchange)
      copy.handle.start(true)
    })
  }

  /** Whether the response of this copy is passed on. The first copy that calls this wins. */
  claimWin(copy: HedgeCopy): boolean {
    if (this.#winner) return this.#winner === copy
    this.#winner = copy
    this.#timer?.clear()
    for (const other of this.#copies) {
      if (other !== copy) {
        other.handle.cancel(
          new ManyhostError('MANYHOST_ABORTED', 'another attempt got a response first'),
        )
      }
    }
    return true
  }

  /** Removes a copy that failed. True if its failure is the failure of the request: no other copy is left. */
  removeFailed(copy: HedgeCopy): boolean {
    this.#copies.delete(copy)
    if (this.#copies.size > 0 && this.#winner !== copy) return false
    this.#timer?.clear()
    return true
  }
}

/** One of the two copies of a request. */
class HedgeCopy implements AttemptSink {
  readonly #hedge: Hedge
  readonly handle: CancelHandle

  constructor(hedge: Hedge, exchange: Exchange, next: SendAttempt, avoid: Target | undefined) {
    this.#hedge = hedge
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

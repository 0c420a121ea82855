/**
 * Hedged requests: when an idempotent request has no answer after a while, a second copy goes to another instance and
 * the first answer wins. Only ever on a place that nobody waits for, so that hedges do not make a busy cluster busier.
 * Source: Dean and Barroso, "The Tail at Scale" (2013).
 */
import type { Duplex } from 'node:stream'
import { ManyhostError } from '../core/errors.ts'
import { after, type Timer } from '../core/time.ts'
import type { Attempt, AttemptSink } from './attempt.ts'
import type { Exchange, RawHeaders, Trip } from './exchange.ts'
import type { Send } from './resend.ts'
import type { ResendPolicy } from './settings.ts'
import type { Target } from './target.ts'
import { isIdempotent } from './verdict.ts'

export interface HedgeParts {
  readonly policy: ResendPolicy
  /** Milliseconds to wait before the second copy; Infinity for not yet known. */
  delay(): number
  /** Whether another instance than this one has a free place that nobody waits for. */
  hasOther(target: Target): boolean
  hedged(exchange: Exchange): void
}

export function hedge(next: Send, parts: HedgeParts): Send {
  return (exchange, sink, avoid) => {
    const { method, keyed, upgrade, resend } = exchange.facts
    const never = (resend ?? parts.policy) === 'never'
    if (never || upgrade !== undefined || !(keyed || isIdempotent(method))) {
      return next(exchange, sink, avoid)
    }
    return new Hedge(exchange, sink, avoid, next, parts)
  }
}

class Hedge implements Trip {
  readonly #exchange: Exchange
  readonly #sink: AttemptSink
  readonly #next: Send
  readonly #parts: HedgeParts
  readonly #legs = new Set<Leg>()
  #timer: Timer | undefined
  #winner: Leg | undefined

  constructor(
    exchange: Exchange,
    sink: AttemptSink,
    avoid: Target | undefined,
    next: Send,
    parts: HedgeParts,
  ) {
    this.#exchange = exchange
    this.#sink = sink
    this.#next = next
    this.#parts = parts
    this.#legs.add(new Leg(this, this.#exchange, next, avoid))
  }

  start(again: boolean): void {
    for (const leg of this.#legs) leg.trip.start(again)
  }

  cancel(reason: Error): void {
    this.#timer?.clear()
    for (const leg of this.#legs) leg.trip.cancel(reason)
  }

  pause(): void {
    this.#winner?.trip.pause()
  }

  resume(): void {
    this.#winner?.trip.resume()
  }

  get sink(): AttemptSink {
    return this.#sink
  }

  dispatched(attempt: Attempt): void {
    if (attempt.number === 1 || this.#legs.size === 1) this.#arm(attempt.target as Target)
    this.#sink.onDispatched(attempt)
  }

  #arm(target: Target): void {
    const delay = this.#parts.delay()
    if (!Number.isFinite(delay)) return
    this.#timer?.clear()
    this.#timer = after(delay, () => {
      if (this.#winner || this.#legs.size !== 1) return
      if (!this.#parts.hasOther(target)) return this.#arm(target)
      const leg = new Leg(this, this.#exchange, this.#next, target)
      this.#legs.add(leg)
      this.#parts.hedged(this.#exchange)
      leg.trip.start(true)
    })
  }

  /** Whether this leg's answer is the one to pass on; the first to ask is. */
  wins(leg: Leg): boolean {
    if (this.#winner) return this.#winner === leg
    this.#winner = leg
    this.#timer?.clear()
    for (const other of this.#legs) {
      if (other !== leg) {
        other.trip.cancel(
          new ManyhostError('MANYHOST_ABORTED', 'another attempt was answered first'),
        )
      }
    }
    return true
  }

  /** Whether a failed leg was the last one, so that its failure is the trip's. */
  isLast(leg: Leg): boolean {
    this.#legs.delete(leg)
    if (this.#legs.size > 0 && this.#winner !== leg) return false
    this.#timer?.clear()
    return true
  }
}

/** One of the copies. */
class Leg implements AttemptSink {
  readonly #hedge: Hedge
  readonly trip: Trip

  constructor(owner: Hedge, exchange: Exchange, next: Send, avoid: Target | undefined) {
    this.#hedge = owner
    this.trip = next(exchange, this, avoid)
  }

  onDispatched(attempt: Attempt): void {
    this.#hedge.dispatched(attempt)
  }

  onInfo(status: number, headers: RawHeaders, text: string): void {
    this.#hedge.sink.onInfo(status, headers, text)
  }

  onHead(status: number, headers: RawHeaders, text: string, attempt: Attempt): void {
    if (this.#hedge.wins(this)) this.#hedge.sink.onHead(status, headers, text, attempt)
  }

  onData(chunk: Buffer, attempt: Attempt): void {
    if (this.#hedge.wins(this)) this.#hedge.sink.onData(chunk, attempt)
  }

  onEnd(trailers: RawHeaders, attempt: Attempt): void {
    if (this.#hedge.wins(this)) this.#hedge.sink.onEnd(trailers, attempt)
  }

  onUpgrade(status: number, headers: RawHeaders, socket: Duplex, attempt: Attempt): void {
    if (this.#hedge.wins(this)) this.#hedge.sink.onUpgrade(status, headers, socket, attempt)
    else socket.destroy()
  }

  onFailed(attempt: Attempt, error: Error): void {
    if (this.#hedge.isLast(this)) this.#hedge.sink.onFailed(attempt, error)
  }

  onRefused(error: Error): void {
    if (this.#hedge.isLast(this)) this.#hedge.sink.onRefused(error)
  }
}

/**
 * One sending of an exchange to one instance: it waits in line, holds a place until the answer's body has ended, and
 * speaks undici's callbacks. Those are the raw ones (undici 7 calls them legacy): they hand over header bytes as they
 * came, where the newer ones parse them into an object that loses order and case and costs more than the rest of
 * this file. Only this file knows that.
 */
import type { Duplex } from 'node:stream'
import type { Dispatcher } from 'undici'
import { fateOf, isWholeAnyway } from '../core/connector.ts'
import { asError, ManyhostError } from '../core/errors.ts'
import { after, now, type Timer } from '../core/time.ts'
import { leastInFlight, type Pick } from './balance.ts'
import type { Exchange, RawHeaders, Sink, Trip } from './exchange.ts'
import { Ticket } from './line.ts'
import type { RequestQueue } from './queue.ts'
import type { Passenger, Target } from './target.ts'
import { trace } from './trace.ts'

const NONE: RawHeaders = []

/** Hears what an attempt says of its target: passive health, statistics. */
export interface Referee {
  readonly queue: RequestQueue
  readonly attemptTimeout: number
  readonly service: string
  answered(target: Target, milliseconds: number): void
  /** The request was given up after this time without an answer: it would have taken longer. */
  unanswered(target: Target, milliseconds: number): void
  /** `reached`: whether the connection had been made. */
  failed(target: Target, error: Error, reached: boolean): void
  waited(milliseconds: number): void
}

export class Attempt extends Ticket implements Trip, Passenger {
  seat = -1
  readonly exchange: Exchange
  readonly #sink: AttemptSink
  readonly #referee: Referee
  pick: Pick = leastInFlight
  /** The target that failed the attempt before, or has the other copy of a hedged request. */
  readonly avoid: Target | undefined
  target: Target | undefined
  /** When it was given to its instance. */
  startedAt = 0
  /** Whether the request was put on a connection: it may have been executed. */
  sent = false
  /** 1, 2, ... in the order of dispatch. */
  number = 0
  /** Of the answer whose head has come; 0 before that. */
  status = 0
  #abort: ((reason: Error) => void) | undefined
  #resume: (() => void) | undefined
  #done = false
  #cancelled: Error | undefined
  #holdsPlace = false
  #timer: Timer | undefined
  #tunnel: Duplex | undefined

  constructor(exchange: Exchange, sink: AttemptSink, referee: Referee, avoid?: Target) {
    super()
    this.exchange = exchange
    this.#sink = sink
    this.#referee = referee
    this.avoid = avoid
  }

  /** Whether the request is rather to go to another target than to this one: here it has failed before. */
  avoids(target: Target): boolean {
    if (target === this.avoid) return true
    return this.exchange.reports?.some(({ instance }) => instance === target.id) ?? false
  }

  /** Whether it has ended, or was given up. */
  get isOver(): boolean {
    return this.#done
  }

  /** Takes its place in line: the first one for a request that was in line before (`again`). */
  start(again: boolean): void {
    if (again) return this.#referee.queue.rejoin(this)
    try {
      this.#referee.queue.join(this)
    } catch (error) {
      this.end(asError(error))
    }
  }

  /** Sends the request. Called by the queue, in its turn; the place that it takes comes back by `release`. */
  run(target: Target): void {
    const { exchange } = this
    this.target = target
    this.startedAt = now()
    this.number = ++exchange.attempts
    const waited = this.startedAt - this.joinedAt
    exchange.queued += waited
    exchange.instance = target.id
    this.#referee.waited(waited)
    this.#holdsPlace = true
    target.board(this)
    if (this.#referee.attemptTimeout > 0) this.#watch()
    this.#sink.onDispatched(this)
    if (trace.attempt.hasSubscribers) {
      trace.attempt.publish({ service: this.#referee.service, exchange, attempt: this })
    }
    this.#dispatch(target)
  }

  #dispatch(target: Target): void {
    const { facts } = this.exchange
    const { body, upgrade, connection } = facts
    const headers = this.number === 1 ? facts.headers : numbered(facts.headers, this.number)
    try {
      const options: Dispatcher.DispatchOptions & { servername: string } = {
        path: facts.path,
        method: facts.method as Dispatcher.HttpMethod,
        headers,
        body: (body !== null && typeof body === 'object' && 'open' in body
          ? body.open()
          : body) as NonNullable<Dispatcher.DispatchOptions['body']>,
        upgrade: upgrade as string,
        // Else undici takes the `Host` header for it, which is a virtual one.
        servername: target.servername,
        headersTimeout: connection?.headersTimeout ?? null,
        bodyTimeout: connection?.bodyTimeout ?? null,
        reset: (connection?.reset ?? null) as boolean,
      }
      target.dispatcher.dispatch(options, this)
    } catch (error) {
      this.onError(asError(error))
    }
  }

  #watch(): void {
    const { attemptTimeout, service } = this.#referee
    this.#timer = after(attemptTimeout, () => {
      this.interrupt(
        new ManyhostError(
          'MANYHOST_ATTEMPT_TIMEOUT',
          `${service}: ${this.target?.id} gave no answer within ${attemptTimeout} ms`,
        ),
      )
    })
  }

  /** Its time in line is over. */
  expire(queueTimeout: number, why: string): void {
    const { service } = this.#referee
    this.end(
      new ManyhostError(
        'MANYHOST_QUEUE_TIMEOUT',
        `${service}: no instance was free within ${queueTimeout} ms (queueTimeout); ${why}`,
        { service },
      ),
    )
  }

  /** Ends an attempt that waits no longer in any line. */
  end(error: Error): void {
    if (this.#done) return
    this.#done = true
    this.#sink.onRefused(error)
  }

  cancel(reason: Error): void {
    if (this.#done) return
    this.#done = true
    this.#cancelled = reason
    if (!this.target) return this.#referee.queue.leave(this)
    if (!this.#resume) this.#referee.unanswered(this.target, now() - this.startedAt)
    this.#cut(reason)
  }

  interrupt(error: Error): void {
    this.#tunnel?.destroy(error)
    if (this.#done) {
      // Given up by its caller before it had a connection, which now will not come.
      if (!this.#tunnel) this.#release()
      return
    }
    this.#done = true
    this.#cancelled = error
    const target = this.target as Target
    const { sent } = this
    this.#cut(error)
    // The instance may never call back: its place is given up here and now.
    this.#release()
    this.#referee.failed(target, error, sent)
    this.#sink.onFailed(this, error)
  }

  pause(): void {}

  resume(): void {
    this.#resume?.()
  }

  #cut(reason: Error): void {
    this.#timer?.clear()
    const abort = this.#abort
    this.#abort = undefined
    // Without a connection yet, the place is kept until undici has one or fails: `onConnect` then cuts.
    if (!abort) return
    abort(reason)
    this.#release()
  }

  /** Gives the place back. Idempotent. */
  #release(): void {
    if (!this.#holdsPlace) return
    this.#holdsPlace = false
    this.#timer?.clear()
    const target = this.target as Target
    target.leave(this)
    this.#referee.queue.release(target)
  }

  // What undici calls.

  onConnect(abort: (reason: Error) => void): void {
    if (this.#cancelled) return abort(this.#cancelled)
    this.#abort = abort
    if (this.sent) return
    this.sent = true
    this.exchange.sent++
  }

  onHeaders(status: number, headers: Buffer[], resume: () => void, text: string): boolean {
    if (this.#done) return true
    this.#resume = resume
    if (status < 200) {
      this.#sink.onInfo(status, headers, text)
      return true
    }
    this.status = status
    this.#timer?.clear()
    const at = now()
    this.exchange.headAt = at
    const target = this.target as Target
    target.answered(this)
    this.#referee.answered(target, at - this.startedAt)
    this.#sink.onHead(status, headers, text, this)
    return !this.exchange.paused
  }

  onData(chunk: Buffer): boolean {
    if (this.#done) return true
    this.#sink.onData(chunk, this)
    return !this.exchange.paused
  }

  /** undici types trailers as text; they are bytes. */
  onComplete(trailers: readonly (Buffer | string)[] | null): void {
    this.#release()
    if (this.#done) return
    this.#done = true
    this.#sink.onEnd((trailers as RawHeaders | null) ?? NONE, this)
  }

  onUpgrade(status: number, headers: readonly (Buffer | string)[] | null, socket: Duplex): void {
    if (this.#done) {
      socket.destroy()
      this.#release()
      return
    }
    this.#done = true
    this.#timer?.clear()
    // The place is held, and the instance's end still felt, until the tunnel is closed.
    this.#tunnel = socket
    socket.once('close', () => this.#release())
    const at = now()
    this.exchange.headAt = at
    const target = this.target as Target
    target.answered(this)
    this.#referee.answered(target, at - this.startedAt)
    this.#sink.onUpgrade(status, (headers as RawHeaders | null) ?? NONE, socket, this)
  }

  onError(thrown: Error): void {
    if (isWholeAnyway(thrown, this.status)) return this.onComplete(null)
    if (this.#done) {
      this.#release()
      return
    }
    this.#done = true
    const reached = this.sent
    if (reached && fateOf(thrown) === 'unsent') {
      this.sent = false
      this.exchange.sent--
    }
    const error = this.exchange.facts.connection ? ownTimeout(thrown, this.exchange) : thrown
    // Before the place is free: else the next in line would be given to the instance that has just failed.
    this.#referee.failed(this.target as Target, error, reached)
    this.#release()
    this.#sink.onFailed(this, error)
  }
}

/** What an attempt tells the layer above it. */
export interface AttemptSink
  extends Omit<Sink, 'onError' | 'onHead' | 'onData' | 'onEnd' | 'onUpgrade'> {
  onDispatched(attempt: Attempt): void
  onHead(status: number, headers: RawHeaders, text: string, attempt: Attempt): void
  onData(chunk: Buffer, attempt: Attempt): void
  onEnd(trailers: RawHeaders, attempt: Attempt): void
  onUpgrade(status: number, headers: RawHeaders, socket: Duplex, attempt: Attempt): void
  /** The attempt failed after it was given to an instance. */
  onFailed(attempt: Attempt, error: Error): void
  /** It never came to an instance: the queue's time was over, or the service ended. */
  onRefused(error: Error): void
}

/** undici's time limits, where the caller has set them: an end of the request, and not of one attempt. */
function ownTimeout(error: Error, { facts }: Exchange): Error {
  const { code } = error as { code?: unknown }
  if (code !== 'UND_ERR_HEADERS_TIMEOUT' && code !== 'UND_ERR_BODY_TIMEOUT') return error
  const isHead = code === 'UND_ERR_HEADERS_TIMEOUT'
  const name = isHead ? 'headersTimeout' : 'bodyTimeout'
  const what = isHead ? 'no answer began' : 'nothing more of the answer came'
  const text = `${facts.method} ${facts.path}: ${what} within ${facts.connection?.[name]} ms (${name})`
  return new ManyhostError('MANYHOST_TIMEOUT', text, { cause: error })
}

/** The headers of a later attempt: the last pair is `x-manyhost-attempt`. */
function numbered(headers: readonly string[], attempt: number): string[] {
  const copy = headers.slice()
  copy[copy.length - 1] = String(attempt)
  return copy
}

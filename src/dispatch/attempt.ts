/**
 * One sending of an exchange to one instance: it waits in line, holds a place until the answer's body has ended, and
 * speaks undici's callbacks. Those are the raw ones (undici 7 calls them legacy): they hand over header bytes as they
 * came, where the newer ones parse them into an object that loses order and case and costs more than the rest of
 * this file. Only this file knows that.
 */
import type { Duplex } from 'node:stream'
import type { Dispatcher } from 'undici'
import { connectionFailureOf, isCompleteDespiteError } from '../core/connector.ts'
import { asError, ManyhostError } from '../core/errors.ts'
import { after, now, type Timer } from '../core/time.ts'
import { leastInFlight, type Pick } from './balance.ts'
import type { CancelHandle, Exchange, RawHeaders, ResponseSink } from './exchange.ts'
import { QueueEntry } from './priority-queue.ts'
import type { RequestQueue } from './request-queue.ts'
import type { InFlightRequest, Target } from './target.ts'
import { trace } from './trace.ts'

const NO_HEADERS: RawHeaders = []

/** Hears what an attempt says of its target: passive health, statistics. */
export interface AttemptObserver {
  readonly queue: RequestQueue
  readonly attemptTimeout: number
  readonly service: string
  onAnswered(target: Target, milliseconds: number): void
  /** The request was given up after this time without an answer: it would have taken longer. */
  onAbandoned(target: Target, milliseconds: number): void
  /** `reached`: whether the connection had been made. */
  onFailed(target: Target, error: Error, reached: boolean): void
  onDequeued(milliseconds: number): void
}

export class Attempt extends QueueEntry implements CancelHandle, InFlightRequest {
  index = -1
  readonly exchange: Exchange
  readonly #sink: AttemptSink
  readonly #observer: AttemptObserver
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
  #holdsSlot = false
  #timer: Timer | undefined
  #tunnel: Duplex | undefined

  constructor(exchange: Exchange, sink: AttemptSink, referee: AttemptObserver, avoid?: Target) {
    super()
    this.exchange = exchange
    this.#sink = sink
    this.#observer = referee
    this.avoid = avoid
  }

  /** Whether the request is rather to go to another target than to this one: here it has failed before. */
  hasFailedOn(target: Target): boolean {
    if (target === this.avoid) return true
    return this.exchange.reports?.some(({ instance }) => instance === target.id) ?? false
  }

  /** Whether it has ended, or was given up. */
  get isOver(): boolean {
    return this.#done
  }

  /** Takes its place in line: the first one for a request that was in line before (`again`). */
  start(again: boolean): void {
    if (again) return this.#observer.queue.rejoin(this)
    try {
      this.#observer.queue.join(this)
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
    this.#observer.onDequeued(waited)
    this.#holdsSlot = true
    target.add(this)
    if (this.#observer.attemptTimeout > 0) this.#startTimeout()
    this.#sink.onDispatched(this)
    if (trace.attempt.hasSubscribers) {
      trace.attempt.publish({ service: this.#observer.service, exchange, attempt: this })
    }
    this.#dispatch(target)
  }

  #dispatch(target: Target): void {
    const { request: facts } = this.exchange
    const { body, upgrade, connection } = facts
    const headers =
      this.number === 1 ? facts.headers : withAttemptNumber(facts.headers, this.number)
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

  #startTimeout(): void {
    const { attemptTimeout, service } = this.#observer
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
    const { service } = this.#observer
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
    if (!this.target) return this.#observer.queue.remove(this)
    if (!this.#resume) this.#observer.onAbandoned(this.target, now() - this.startedAt)
    this.#abortConnection(reason)
  }

  interrupt(error: Error): void {
    this.#tunnel?.destroy(error)
    if (this.#done) {
      // Given up by its caller before it had a connection, which now will not come.
      if (!this.#tunnel) this.#releaseSlot()
      return
    }
    this.#done = true
    this.#cancelled = error
    const target = this.target as Target
    const { sent } = this
    this.#abortConnection(error)
    // The instance may never call back: its place is given up here and now.
    this.#releaseSlot()
    this.#observer.onFailed(target, error, sent)
    this.#sink.onFailed(this, error)
  }

  pause(): void {}

  resume(): void {
    this.#resume?.()
  }

  #abortConnection(reason: Error): void {
    this.#timer?.clear()
    const abort = this.#abort
    this.#abort = undefined
    // Without a connection yet, the place is kept until undici has one or fails: `onConnect` then cuts.
    if (!abort) return
    abort(reason)
    this.#releaseSlot()
  }

  /** Gives the place back. Idempotent. */
  #releaseSlot(): void {
    if (!this.#holdsSlot) return
    this.#holdsSlot = false
    this.#timer?.clear()
    const target = this.target as Target
    target.remove(this)
    this.#observer.queue.release(target)
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
    target.markAnswered(this)
    this.#observer.onAnswered(target, at - this.startedAt)
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
    this.#releaseSlot()
    if (this.#done) return
    this.#done = true
    this.#sink.onEnd((trailers as RawHeaders | null) ?? NO_HEADERS, this)
  }

  onUpgrade(status: number, headers: readonly (Buffer | string)[] | null, socket: Duplex): void {
    if (this.#done) {
      socket.destroy()
      this.#releaseSlot()
      return
    }
    this.#done = true
    this.#timer?.clear()
    // The place is held, and the instance's end still felt, until the tunnel is closed.
    this.#tunnel = socket
    socket.once('close', () => this.#releaseSlot())
    const at = now()
    this.exchange.headAt = at
    const target = this.target as Target
    target.markAnswered(this)
    this.#observer.onAnswered(target, at - this.startedAt)
    this.#sink.onUpgrade(status, (headers as RawHeaders | null) ?? NO_HEADERS, socket, this)
  }

  onError(thrown: Error): void {
    if (isCompleteDespiteError(thrown, this.status)) return this.onComplete(null)
    if (this.#done) {
      this.#releaseSlot()
      return
    }
    this.#done = true
    const reached = this.sent
    if (reached && connectionFailureOf(thrown) === 'unsent') {
      this.sent = false
      this.exchange.sent--
    }
    const error = this.exchange.request.connection ? toCallerTimeout(thrown, this.exchange) : thrown
    // Before the place is free: else the next in line would be given to the instance that has just failed.
    this.#observer.onFailed(this.target as Target, error, reached)
    this.#releaseSlot()
    this.#sink.onFailed(this, error)
  }
}

/** What an attempt tells the layer above it. */
export interface AttemptSink
  extends Omit<ResponseSink, 'onError' | 'onHead' | 'onData' | 'onEnd' | 'onUpgrade'> {
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
function toCallerTimeout(error: Error, { request: facts }: Exchange): Error {
  const { code } = error as { code?: unknown }
  if (code !== 'UND_ERR_HEADERS_TIMEOUT' && code !== 'UND_ERR_BODY_TIMEOUT') return error
  const isHead = code === 'UND_ERR_HEADERS_TIMEOUT'
  const name = isHead ? 'headersTimeout' : 'bodyTimeout'
  const what = isHead ? 'no answer began' : 'nothing more of the answer came'
  const text = `${facts.method} ${facts.path}: ${what} within ${facts.connection?.[name]} ms (${name})`
  return new ManyhostError('MANYHOST_TIMEOUT', text, { cause: error })
}

/** The headers of a later attempt: the last pair is `x-manyhost-attempt`. */
function withAttemptNumber(headers: readonly string[], attempt: number): string[] {
  const copy = headers.slice()
  copy[copy.length - 1] = String(attempt)
  return copy
}

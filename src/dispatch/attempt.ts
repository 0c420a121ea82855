/**
 * One sending of an exchange to one instance. It waits in the queue, holds a slot until the body of the response has
 * ended, and implements undici's callbacks. These are undici's raw callbacks (undici 7 calls them legacy): they give
 * header bytes as they came. The newer callbacks parse headers into an object, which loses order and case and costs
 * more than the rest of this file. No other file knows this interface.
 */
import type { Duplex } from 'node:stream'
import type { Dispatcher } from 'undici'
import { connectionFailureOf, isCompleteDespiteError } from '../core/connector.ts'
import { asError, ManyhostError } from '../core/errors.ts'
import { after, now, type Timer } from '../core/time.ts'
import { leastInFlight, type Pick } from './balance.ts'
import type { CancelHandle, Exchange, RawHeaders, ResponseSink } from './exchange.ts'
import { QueueEntry } from './priority-queue.ts'
import type { InFlightRequest, Target } from './target.ts'
import { trace } from './trace.ts'

const NO_HEADERS: RawHeaders = []

/** The queue as an attempt sees it. */
export interface AttemptQueue {
  /** @throws ManyhostError MANYHOST_QUEUE_FULL, or the reason why the queue is closed */
  join(attempt: Attempt): void
  /** Joins before all others. */
  rejoin(attempt: Attempt): void
  remove(attempt: Attempt): void
  /** Gives the slot on this target back. */
  release(target: Target): void
}

/** Is notified of what attempts find out about their targets: for passive health checks and statistics. */
export interface AttemptObserver {
  readonly queue: AttemptQueue
  readonly attemptTimeout: number
  readonly service: string
  onAnswered(target: Target, milliseconds: number): void
  /** The caller gave the request up after this time without a response: the response would have taken longer. */
  onAbandoned(target: Target, milliseconds: number): void
  /** @param reached whether the request had a connection to the target */
  onFailed(target: Target, error: Error, reached: boolean): void
  onDequeued(milliseconds: number): void
}

export class Attempt extends QueueEntry implements CancelHandle, InFlightRequest {
  index = -1
  readonly exchange: Exchange
  readonly #sink: AttemptSink
  readonly #observer: AttemptObserver
  pick: Pick = leastInFlight
  /** The target that failed the previous attempt, or that has the other copy of a hedged request. */
  readonly avoid: Target | undefined
  target: Target | undefined
  /** When it was given to its instance, on the clock of `now()`. */
  startedAt = 0
  /** Whether the request was put on a connection: it may have been executed. */
  sent = false
  /** 1, 2, ... in the order of dispatch. */
  number = 0
  /** Status of the response; 0 before its head has come. */
  status = 0
  #abort: ((reason: Error) => void) | undefined
  #resume: (() => void) | undefined
  #done = false
  #cancelled: Error | undefined
  #holdsSlot = false
  #timer: Timer | undefined
  #tunnel: Duplex | undefined

  constructor(exchange: Exchange, sink: AttemptSink, observer: AttemptObserver, avoid?: Target) {
    super()
    this.exchange = exchange
    this.#sink = sink
    this.#observer = observer
    this.avoid = avoid
  }

  /** Whether the request has failed on this target before, so that another target is better. */
  hasFailedOn(target: Target): boolean {
    if (target === this.avoid) return true
    return this.exchange.reports?.some(({ instance }) => instance === target.id) ?? false
  }

  /** Whether it has ended or was cancelled. */
  get isOver(): boolean {
    return this.#done
  }

  /** Joins the queue; before all others if the request was in the queue before (`again`). */
  start(again: boolean): void {
    if (again) return this.#observer.queue.rejoin(this)
    try {
      this.#observer.queue.join(this)
    } catch (error) {
      this.end(asError(error))
    }
  }

  /** Sends the request. The queue calls this in turn and lends a slot, which goes back by `release`. */
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
    const { request } = this.exchange
    const { body, upgrade, connection } = request
    const headers =
      this.number === 1 ? request.headers : withAttemptNumber(request.headers, this.number)
    try {
      const options: Dispatcher.DispatchOptions & { servername: string } = {
        path: request.path,
        method: request.method as Dispatcher.HttpMethod,
        headers,
        body: (body !== null && typeof body === 'object' && 'open' in body
          ? body.open()
          : body) as NonNullable<Dispatcher.DispatchOptions['body']>,
        upgrade: upgrade as string,
        // Without it undici would take the `Host` header, which names the virtual host.
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
          `${service}: ${this.target?.id} sent no response within ${attemptTimeout} ms`,
        ),
      )
    })
  }

  /** Ends it because `queueTimeout` is over. */
  expire(queueTimeout: number, explanation: string): void {
    const { service } = this.#observer
    this.end(
      new ManyhostError(
        'MANYHOST_QUEUE_TIMEOUT',
        `${service}: no instance was free within ${queueTimeout} ms (queueTimeout); ${explanation}`,
        { service },
      ),
    )
  }

  /** Ends an attempt that is in no queue any more. */
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
      // Its caller cancelled it before it had a connection, and now no connection will come.
      if (!this.#tunnel) this.#releaseSlot()
      return
    }
    this.#done = true
    this.#cancelled = error
    const target = this.target as Target
    const { sent } = this
    this.#abortConnection(error)
    // undici may never call back for a lost instance, so the slot is released here.
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
    // Without a connection yet, the slot is kept until undici has one or fails. Then `onConnect` aborts.
    if (!abort) return
    abort(reason)
    this.#releaseSlot()
  }

  /** Gives the slot back. Idempotent. */
  #releaseSlot(): void {
    if (!this.#holdsSlot) return
    this.#holdsSlot = false
    this.#timer?.clear()
    const target = this.target as Target
    target.remove(this)
    this.#observer.queue.release(target)
  }

  // Called by undici.

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

  /** undici declares trailers as text, but they are bytes. */
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
    // The slot stays taken, and `interrupt` still ends the tunnel, until the tunnel is closed.
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
    // Before the slot is free: otherwise the next request would go to the instance that has just failed.
    this.#observer.onFailed(this.target as Target, error, reached)
    this.#releaseSlot()
    this.#sink.onFailed(this, error)
  }
}

/** Takes the response of an attempt: the layer above. */
export interface AttemptSink
  extends Omit<ResponseSink, 'onError' | 'onHead' | 'onData' | 'onEnd' | 'onUpgrade'> {
  onDispatched(attempt: Attempt): void
  onHead(status: number, headers: RawHeaders, text: string, attempt: Attempt): void
  onData(chunk: Buffer, attempt: Attempt): void
  onEnd(trailers: RawHeaders, attempt: Attempt): void
  onUpgrade(status: number, headers: RawHeaders, socket: Duplex, attempt: Attempt): void
  /** The attempt failed after it was given to an instance. */
  onFailed(attempt: Attempt, error: Error): void
  /** The attempt was never given to an instance: `queueTimeout` was over, or the service ended. */
  onRefused(error: Error): void
}

/** A time limit of undici that the caller has set ends the request, and not only this attempt. */
function toCallerTimeout(error: Error, { request }: Exchange): Error {
  const { code } = error as { code?: unknown }
  if (code !== 'UND_ERR_HEADERS_TIMEOUT' && code !== 'UND_ERR_BODY_TIMEOUT') return error
  const isHead = code === 'UND_ERR_HEADERS_TIMEOUT'
  const name = isHead ? 'headersTimeout' : 'bodyTimeout'
  const what = isHead ? 'no response began' : 'no more data of the response came'
  const text = `${request.method} ${request.path}: ${what} within ${request.connection?.[name]} ms (${name})`
  return new ManyhostError('MANYHOST_TIMEOUT', text, { cause: error })
}

/** The headers of a later attempt. The last pair is always `x-manyhost-attempt`. */
function withAttemptNumber(headers: readonly string[], attempt: number): string[] {
  const copy = headers.slice()
  copy[copy.length - 1] = String(attempt)
  return copy
}

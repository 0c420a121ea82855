/** A request to the virtual URL while it is a job: undici's side of it, without a connection. */
import { STATUS_CODES } from 'node:http'
import { type Dispatcher, errors } from 'undici'
import { asError } from '../../src/core/errors.ts'
import { after, type Timer } from '../../src/core/time.ts'
import type { Place } from './place.ts'

/** What a worker is told of the request beside its parameters. */
export interface CallFacts {
  readonly method: string
  /** With the query. */
  readonly path: string
  /** JSON text. */
  readonly parameters: string
}

type Handler = Dispatcher.DispatchHandler

export class Call implements Dispatcher.DispatchController {
  readonly facts: CallFacts
  readonly place: Place
  rawHeaders: string[] = []
  readonly rawTrailers: string[] = []
  readonly #handler: Handler
  /** Its request is over: the job has nobody to answer. */
  readonly #onOver: () => void
  #state: 'waiting' | 'running' | 'over' = 'waiting'
  #reason: Error | null = null
  #paused = false
  #rest: (() => void) | undefined
  readonly #headersTimeout: number
  #timer: Timer | undefined

  /** @param headersTimeout milliseconds that a worker may take, where the caller says so; 0 is no limit */
  constructor(
    facts: CallFacts,
    place: Place,
    handler: Handler,
    onOver: () => void,
    headersTimeout: number,
  ) {
    this.facts = facts
    this.place = place
    this.#handler = handler
    this.#onOver = onOver
    this.#headersTimeout = headersTimeout
  }

  /**
   * Whether it is still wanted. Called when a worker takes it, and not before: until then the request was not sent, and
   * may be sent elsewhere whatever its service says of resends.
   */
  begin(): boolean {
    if (this.#state !== 'waiting') return this.#state === 'running'
    this.#state = 'running'
    if (this.#headersTimeout > 0) {
      const text = `no result within ${this.#headersTimeout} ms`
      const expire = (): void => this.fail(new errors.HeadersTimeoutError(text))
      this.#timer = after(this.#headersTimeout, expire)
    }
    try {
      this.#handler.onRequestStart?.(this, {})
    } catch (thrown) {
      this.abort(asError(thrown))
    }
    // The caller may have gone while it waited, and said so just now.
    return !this.aborted
  }

  answer(status: number, body: string, headers: Readonly<Record<string, string>>): void {
    if (!this.begin()) return
    this.#timer?.clear()
    const bytes = Buffer.from(body)
    const all = { ...headers, 'content-length': String(bytes.length) }
    this.rawHeaders = Object.entries(all).flat()
    try {
      this.#handler.onResponseStart?.(this, status, all, STATUS_CODES[status])
    } catch (thrown) {
      this.abort(asError(thrown))
    }
    this.#rest = () => {
      this.#state = 'over'
      if (bytes.length > 0) this.#handler.onResponseData?.(this, bytes)
      this.#handler.onResponseEnd?.(this, {})
      this.#onOver()
    }
    this.#goOn()
  }

  /** The request has failed here; whether it is sent again is not decided here. */
  fail(error: Error): void {
    if (this.#state === 'over') return
    this.#state = 'over'
    this.#timer?.clear()
    this.#reason = error
    this.#handler.onResponseError?.(this, error)
    this.#onOver()
  }

  get isOver(): boolean {
    return this.#state === 'over'
  }

  /** Whether a worker has taken it. */
  get isRunning(): boolean {
    return this.#state === 'running'
  }

  get aborted(): boolean {
    return this.#reason !== null
  }

  get paused(): boolean {
    return this.#paused
  }

  get reason(): Error | null {
    return this.#reason
  }

  abort(reason: Error): void {
    this.fail(reason)
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
    this.#goOn()
  }

  #goOn(): void {
    const rest = this.#rest
    if (this.#paused || this.#state !== 'running' || !rest) return
    this.#rest = undefined
    rest()
  }
}

/** A request to the virtual URL while it is a job: undici's side of it, without a connection. */
import { STATUS_CODES } from 'node:http'
import { type Dispatcher, errors } from 'undici'
import { asError } from '../../src/core/errors.ts'
import { after, type Timer } from '../../src/core/time.ts'
import type { PullInstance } from './pull-instance.ts'

/** What a worker is told of the request beside its parameters. */
export interface PulledRequestInput {
  readonly method: string
  /** With the query. */
  readonly path: string
  /** JSON text. */
  readonly parameters: string
}

type Handler = Dispatcher.DispatchHandler

export class PulledRequest implements Dispatcher.DispatchController {
  readonly input: PulledRequestInput
  readonly instance: PullInstance
  rawHeaders: string[] = []
  readonly rawTrailers: string[] = []
  readonly #handler: Handler
  /** Its request is over: the job has nobody to answer. */
  readonly #onEnd: () => void
  #state: 'waiting' | 'running' | 'over' = 'waiting'
  #reason: Error | null = null
  #paused = false
  #sendBody: (() => void) | undefined
  readonly #headersTimeout: number
  #timer: Timer | undefined

  /** @param headersTimeout milliseconds that a worker may take, where the caller says so; 0 is no limit */
  constructor(
    facts: PulledRequestInput,
    place: PullInstance,
    handler: Handler,
    onOver: () => void,
    headersTimeout: number,
  ) {
    this.input = facts
    this.instance = place
    this.#handler = handler
    this.#onEnd = onOver
    this.#headersTimeout = headersTimeout
  }

  /**
   * Whether it is still wanted. Called when a worker takes it, and not before: until then the request was not sent, and
   * may be sent elsewhere whatever its service says of resends.
   */
  tryStart(): boolean {
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

  respond(status: number, body: string, headers: Readonly<Record<string, string>>): void {
    if (!this.tryStart()) return
    this.#timer?.clear()
    const bytes = Buffer.from(body)
    const all = { ...headers, 'content-length': String(bytes.length) }
    this.rawHeaders = Object.entries(all).flat()
    try {
      this.#handler.onResponseStart?.(this, status, all, STATUS_CODES[status])
    } catch (thrown) {
      this.abort(asError(thrown))
    }
    this.#sendBody = () => {
      this.#state = 'over'
      if (bytes.length > 0) this.#handler.onResponseData?.(this, bytes)
      this.#handler.onResponseEnd?.(this, {})
      this.#onEnd()
    }
    this.#continueBody()
  }

  /** The request has failed here; whether it is sent again is not decided here. */
  fail(error: Error): void {
    if (this.#state === 'over') return
    this.#state = 'over'
    this.#timer?.clear()
    this.#reason = error
    this.#handler.onResponseError?.(this, error)
    this.#onEnd()
  }

  get hasEnded(): boolean {
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
    this.#continueBody()
  }

  #continueBody(): void {
    const rest = this.#sendBody
    if (this.#paused || this.#state !== 'running' || !rest) return
    this.#sendBody = undefined
    rest()
  }
}

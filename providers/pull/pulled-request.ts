/** A request to the virtual URL while it is a job. It plays the part of undici's connection towards the handler of the request. */
import { STATUS_CODES } from 'node:http'
import { type Dispatcher, errors } from 'undici'
import { asError } from '../../src/core/errors.ts'
import { after, type Timer } from '../../src/core/time.ts'

/** What a worker gets of the request. */
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
  rawHeaders: string[] = []
  readonly rawTrailers: string[] = []
  readonly #handler: Handler
  readonly #onEnd: () => void
  #state: 'waiting' | 'running' | 'ended' = 'waiting'
  #reason: Error | null = null
  #paused = false
  #sendBody: (() => void) | undefined
  readonly #headersTimeout: number
  #timer: Timer | undefined

  /**
   * @param onEnd called when the request has ended, so that nobody waits for the job any more
   * @param headersTimeout milliseconds that a worker may take, if the caller has set a limit; 0 is no limit
   */
  constructor(
    input: PulledRequestInput,
    handler: Handler,
    onEnd: () => void,
    headersTimeout: number,
  ) {
    this.input = input
    this.#handler = handler
    this.#onEnd = onEnd
    this.#headersTimeout = headersTimeout
  }

  /**
   * Starts the request if the caller still wants it, and returns whether it does. Called when a worker takes the job, not
   * before: until then the request counts as not sent, and may be sent to another instance whatever its service says of
   * resends.
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
    // A caller that has gone while the request waited aborts it in onRequestStart.
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
      this.#state = 'ended'
      if (bytes.length > 0) this.#handler.onResponseData?.(this, bytes)
      this.#handler.onResponseEnd?.(this, {})
      this.#onEnd()
    }
    this.#continueBody()
  }

  /** The request has failed on this instance. The session decides whether it is sent again. */
  fail(error: Error): void {
    if (this.#state === 'ended') return
    this.#state = 'ended'
    this.#timer?.clear()
    this.#reason = error
    this.#handler.onResponseError?.(this, error)
    this.#onEnd()
  }

  /** Whether a worker has taken it, and has not answered yet. */
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
    const sendBody = this.#sendBody
    if (this.#paused || this.#state !== 'running' || !sendBody) return
    this.#sendBody = undefined
    sendBody()
  }
}

/** Hands an instance's answer to the client, at the client's pace. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { asError, describe, ManyhostError } from '../errors.ts'
import { type Exchange, type RawHeaders, rawPairs, type Sink } from '../inside.ts'
import { now } from '../time.ts'
import { cut, endWith, endWithBody, writeHead, writeTrailers } from './answer.ts'
import { responseHeaders } from './headers.ts'
import { answerable, answerProblem } from './problem.ts'

export interface RelayOptions {
  /** `1.1 manyhost` */
  readonly via: string
  readonly id: string
  readonly serverTiming: boolean
  /** Added to every answer, in place of the instance's own: CORS. */
  readonly cors: readonly string[] | undefined
  /** Whether the gateway is about to close: connections end with their answers then. */
  isClosing(): boolean
}

const GONE = new ManyhostError('MANYHOST_ABORTED', 'the client went away')

export class Relay implements Sink {
  readonly #request: IncomingMessage
  readonly #response: ServerResponse
  readonly #options: RelayOptions
  #exchange: Exchange | undefined
  /** A whole answer: head and body leave in one write. */
  #whole: { status: number; text: string; headers: string[] } | undefined
  #chunks: Buffer[] | undefined
  #waits = false
  #failed = false

  constructor(request: IncomingMessage, response: ServerResponse, options: RelayOptions) {
    this.#request = request
    this.#response = response
    this.#options = options
    response.on('close', this.#onClose)
  }

  /** The exchange that it is the sink of; it may have ended already. */
  set exchange(exchange: Exchange) {
    if (exchange.settled) return
    this.#exchange = exchange
    if (this.#failed) exchange.cancel(BAD_ANSWER)
    else if (this.#response.destroyed) this.#onClose()
  }

  /** Its place is free at once when the client goes. */
  readonly #onClose = (): void => {
    this.#exchange?.cancel(GONE)
  }

  onInfo(status: number, headers: RawHeaders): void {
    if (status !== 103 || this.#request.httpVersion === '1.0') return
    const link: string[] = []
    for (const [name, value] of rawPairs(headers)) {
      if (name.toLowerCase() === 'link') link.push(value)
    }
    if (link.length === 0) return
    try {
      this.#response.writeEarlyHints({ link })
    } catch {
      // A hint that Node takes for no link: it is a hint, no more.
    }
  }

  onHead(status: number, raw: RawHeaders, text: string, whole: boolean): void {
    const { via, id, cors, serverTiming } = this.#options
    const headers = responseHeaders(raw, { via, id, ownCors: cors !== undefined })
    if (cors) headers.push(...cors)
    if (serverTiming) headers.push('server-timing', this.#timing())
    if (whole) {
      this.#whole = { status, text, headers }
      return
    }
    if (!this.#writeHead(status, text, headers)) return
    // The head must not wait for the first bytes of the body: an event stream may be silent for long.
    this.#response.flushHeaders()
  }

  /** False for a head that cannot be written: the instance said what HTTP has not. */
  #writeHead(status: number, text: string, headers: string[]): boolean {
    try {
      if (this.#options.isClosing()) this.#response.shouldKeepAlive = false
      writeHead(this.#request, this.#response, status, text, headers)
      return true
    } catch (error) {
      this.#failed = true
      const exchange = this.#exchange
      this.#exchange = undefined
      exchange?.cancel(BAD_ANSWER)
      const what = `the instance's answer cannot be passed on: ${describe(error)}`
      this.#problem(new ManyhostError('MANYHOST_ATTEMPT_FAILED', what, { cause: asError(error) }))
      return false
    }
  }

  #timing(): string {
    const { queued = 0, startedAt = now(), attempts = 0 } = this.#exchange ?? {}
    const total = now() - startedAt
    return `queue;dur=${queued.toFixed(1)}, instance;dur=${(total - queued).toFixed(1)}, attempts;desc="${attempts}"`
  }

  onData(chunk: Buffer): void {
    if (this.#failed) return
    if (this.#whole) {
      if (this.#chunks) this.#chunks.push(chunk)
      else this.#chunks = [chunk]
      return
    }
    if (this.#response.write(chunk) || this.#waits) return
    this.#waits = true
    this.#exchange?.pause()
    this.#response.once('drain', () => {
      this.#waits = false
      this.#exchange?.resume()
    })
  }

  onEnd(trailers: RawHeaders): void {
    this.#exchange = undefined
    if (this.#failed) return
    const response = this.#response
    if (this.#whole) {
      const { status, text, headers } = this.#whole
      if (!this.#writeHead(status, text, headers)) return
      this.#endWhole()
      return
    }
    try {
      if (trailers.length > 0) writeTrailers(this.#request, response, rawPairs(trailers))
    } catch {
      // Trailers that HTTP has not: the answer is whole without them.
    }
    response.end()
  }

  #endWhole(): void {
    const chunks = this.#chunks
    const response = this.#response
    if (!chunks) {
      response.end()
      return
    }
    const body = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks)
    endWithBody(response, body)
  }

  /** An answer to a request that asked for no upgrade. */
  onUpgrade(_status: number, _headers: RawHeaders, socket: Duplex): void {
    socket.destroy()
    const text = 'the instance switched protocols unasked'
    this.onError(new ManyhostError('MANYHOST_ATTEMPT_FAILED', text))
  }

  onError(error: Error): void {
    this.#exchange = undefined
    if (!this.#failed) this.#problem(error)
  }

  #problem(error: Error): void {
    const request = this.#request
    const response = this.#response
    if (response.destroyed) return
    if (response.headersSent) return cut(request, response)
    const { id, cors = [] } = this.#options
    if (!request.complete || this.#options.isClosing()) endWith(request, response)
    answerProblem(request, response, answerable(error), { id, headers: cors })
  }
}

const BAD_ANSWER = new ManyhostError('MANYHOST_ATTEMPT_FAILED', 'a bad answer')

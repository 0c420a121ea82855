/** Passes the response of an instance to the client, as fast as the client reads. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { asError, ManyhostError } from '../core/errors.ts'
import { now } from '../core/time.ts'
import type { Exchange, RawHeaders, ResponseSink } from '../dispatch/exchange.ts'
import { chooseFraming, encodeReasonPhrase, hasContent } from './framing.ts'
import { toResponseError, writeProblem } from './problem.ts'
import { filterTrailers, interimHeaders, responseHeaders } from './response-headers.ts'
import {
  closeAfterResponse,
  cutResponse,
  endWithBody,
  flushHead,
  isClientGone,
  onResponseClosed,
  writeHead,
  writeInformational,
  writeTrailers,
} from './response-writer.ts'

export interface ResponseRelayOptions {
  /** `1.1 manyhost` */
  readonly via: string
  readonly id: string
  readonly serverTiming: boolean
  /** CORS headers of every response, in place of those of the instance; undefined: those of the instance stay. */
  readonly cors: readonly string[] | undefined
  /** Whether the gateway is about to close: connections end with their next response then. */
  isClosing(): boolean
}

const CLIENT_GONE = new ManyhostError('MANYHOST_ABORTED', 'the client went away')

export class ResponseRelay implements ResponseSink {
  readonly #request: IncomingMessage
  readonly #response: ServerResponse
  readonly #options: ResponseRelayOptions
  #exchange: Exchange | undefined
  /** Of a response that is held until it is complete: head and body leave in one write. */
  #wholeHead: { status: number; text: string; headers: string[] } | undefined
  #chunks: Buffer[] | undefined
  #isPaused = false
  /** Whether nothing more of the instance's response is passed on. */
  #failed = false
  /** Whether body bytes are dropped: the client would take them for the next response. */
  #isBodyless = false
  #informationalCount = 0

  constructor(request: IncomingMessage, response: ServerResponse, options: ResponseRelayOptions) {
    this.#request = request
    this.#response = response
    this.#options = options
    onResponseClosed(request, response, this.#onClose)
  }

  /** The exchange whose sink this is. It may have ended already. */
  set exchange(exchange: Exchange) {
    if (exchange.settled) return
    this.#exchange = exchange
    if (this.#failed) exchange.cancel(BAD_RESPONSE)
    else if (isClientGone(this.#request, this.#response)) this.#onClose()
  }

  /** The slot is released at once when the client goes away. */
  readonly #onClose = (): void => {
    this.#exchange?.cancel(CLIENT_GONE)
  }

  onInfo(status: number, headers: RawHeaders): void {
    // HTTP/1.0 has no informational responses. The gateway sends 100 itself, and tunnels send 101.
    if (status < 102 || status > 199 || this.#request.httpVersion === '1.0') return
    if (++this.#informationalCount > MAX_INFORMATIONAL) return
    writeInformational(this.#request, this.#response, status, interimHeaders(headers))
  }

  onHead(status: number, raw: RawHeaders, phrase: string, whole: boolean): void {
    const { via, id, cors, serverTiming } = this.#options
    const request = this.#request
    const framing = chooseFraming(request, status)
    let headers: string[]
    try {
      if (status > 999 || (status > 599 && request.httpVersionMajor === 2))
        throw unknownStatusError(status)
      headers = responseHeaders(raw, { via, id, gatewayHandlesCors: cors !== undefined, framing })
    } catch (error) {
      return this.#refuse(asError(error))
    }
    if (cors) headers.push(...cors)
    if (serverTiming) headers.push('server-timing', this.#serverTiming())
    this.#isBodyless = !hasContent(request, status)
    const text = encodeReasonPhrase(phrase)
    if (whole) {
      this.#wholeHead = { status, text, headers }
      return
    }
    if (!this.#writeHead(status, text, headers)) return
    // The head must not wait for the first bytes of the body: an event stream may be silent for a long time.
    flushHead(request, this.#response)
  }

  /** The client's HTTP version does not allow this response. The instance is not asked again. */
  #refuse(error: Error): void {
    this.#cancelExchange()
    this.#writeProblem(error)
  }

  #cancelExchange(): void {
    this.#failed = true
    const exchange = this.#exchange
    this.#exchange = undefined
    exchange?.cancel(BAD_RESPONSE)
  }

  #writeHead(status: number, text: string, headers: string[]): boolean {
    if (this.#options.isClosing()) this.#response.shouldKeepAlive = false
    if (writeHead(this.#request, this.#response, status, text, headers)) return true
    this.#cancelExchange()
    return false
  }

  #serverTiming(): string {
    const { queued = 0, startedAt = now(), attempts = 0 } = this.#exchange ?? {}
    const total = now() - startedAt
    return `queue;dur=${queued.toFixed(1)}, instance;dur=${(total - queued).toFixed(1)}, attempts;desc="${attempts}"`
  }

  onData(chunk: Buffer): void {
    if (this.#failed || this.#isBodyless) return
    if (this.#wholeHead) {
      if (this.#chunks) this.#chunks.push(chunk)
      else this.#chunks = [chunk]
      return
    }
    if (this.#response.write(chunk) || this.#isPaused) return
    this.#isPaused = true
    this.#exchange?.pause()
    this.#response.once('drain', () => {
      this.#isPaused = false
      this.#exchange?.resume()
    })
  }

  onEnd(trailers: RawHeaders): void {
    this.#exchange = undefined
    if (this.#failed) return
    const response = this.#response
    if (this.#wholeHead) {
      const { status, text, headers } = this.#wholeHead
      if (!this.#writeHead(status, text, headers)) return
      this.#endWhole()
      return
    }
    // Without a head, node:http would send one with the status 200.
    if (!response.headersSent) return this.#writeProblem(missingHeadError())
    if (trailers.length > 0 && !this.#isBodyless) {
      writeTrailers(this.#request, response, filterTrailers(trailers))
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

  /** The request did not ask for an upgrade. */
  onUpgrade(_status: number, _headers: RawHeaders, socket: Duplex): void {
    socket.destroy()
    const text = 'the instance switched protocols without being asked'
    this.onError(new ManyhostError('MANYHOST_BAD_RESPONSE', text))
  }

  onError(error: Error): void {
    this.#exchange = undefined
    if (!this.#failed) this.#writeProblem(error)
  }

  #writeProblem(error: Error): void {
    const request = this.#request
    const response = this.#response
    if (isClientGone(request, response)) return
    if (response.headersSent) {
      // A response without content is complete with its head, whatever happened to the instance.
      if (this.#isBodyless) response.end()
      else cutResponse(request, response)
      return
    }
    const { id, cors = [] } = this.#options
    if (!request.complete || this.#options.isClosing()) closeAfterResponse(request, response)
    writeProblem(request, response, toResponseError(error), { id, headers: cors })
  }
}

/** Further informational responses to one request are not passed on. */
const MAX_INFORMATIONAL = 100

function unknownStatusError(status: number): ManyhostError {
  const text = `the response of the instance cannot be passed on: the client's HTTP version has no status ${status}`
  return new ManyhostError('MANYHOST_BAD_RESPONSE', text)
}

function missingHeadError(): ManyhostError {
  const text = 'the response of the instance cannot be passed on: it ended without a head'
  return new ManyhostError('MANYHOST_BAD_RESPONSE', text)
}

const BAD_RESPONSE = new ManyhostError(
  'MANYHOST_BAD_RESPONSE',
  'the response of the instance was refused',
)

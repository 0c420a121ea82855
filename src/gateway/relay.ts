/** Hands an instance's answer to the client, at the client's pace. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import type { Exchange, RawHeaders, Sink } from '../dispatch/exchange.ts'
import { rawPairs } from '../dispatch/raw.ts'
import { ManyhostError } from '../errors.ts'
import { afterIdly, now } from '../time.ts'
import { responseHeaders } from './headers.ts'
import { answerable, answerProblem } from './problem.ts'

export interface RelayOptions {
  /** `1.1 manyhost` */
  readonly via: string
  readonly id: string
  readonly serverTiming: boolean
  /** Added to every answer: CORS. */
  readonly extra: readonly string[]
}

const GONE = new ManyhostError('MANYHOST_ABORTED', 'the client went away')

/** What is being answered on a connection: HTTP/1.1 has one request at a time. */
const relays = new WeakMap<object, Relay>()

/** The client of this connection sends no more. */
export function onHalfClose(socket: object): void {
  relays.get(socket)?.probe()
}

export class Relay implements Sink {
  readonly #request: IncomingMessage
  readonly #response: ServerResponse
  readonly #options: RelayOptions
  #exchange: Exchange | undefined
  /** A whole answer: head and body leave in one write. */
  #whole: { status: number; text: string; headers: string[] } | undefined
  #chunks: Buffer[] = []
  #waits = false
  #probes = 0

  constructor(request: IncomingMessage, response: ServerResponse, options: RelayOptions) {
    this.#request = request
    this.#response = response
    this.#options = options
    response.on('close', this.#onClose)
    relays.set(request.socket, this)
  }

  /**
   * The client sent its last byte. It may still want its answer, or be gone: only writing tells, since who is gone
   * answers with a reset. 102 is written, which every client of HTTP/1.1 has to skip (RFC 9110 section 15.2).
   */
  probe(): void {
    const response = this.#response
    if (!this.#exchange || response.headersSent || this.#request.httpVersion !== '1.1') return
    response.writeProcessing()
    afterIdly(this.#probes++ === 0 ? 20 : 1_000, () => this.probe())
  }

  /** The exchange that it is the sink of; it may have ended already. */
  set exchange(exchange: Exchange) {
    if (exchange.settled) return
    this.#exchange = exchange
    if (this.#response.destroyed) this.#onClose()
  }

  /** Its place is free at once when the client goes. */
  readonly #onClose = (): void => {
    this.#exchange?.cancel(GONE)
  }

  onInfo(status: number, headers: RawHeaders): void {
    if (status !== 103 || this.#request.httpVersion === '1.0') return
    const hints: Record<string, string | string[]> = {}
    for (const [name, value] of rawPairs(headers)) {
      const lower = name.toLowerCase()
      if (lower !== 'link') continue
      hints.link = [...((hints.link as string[] | undefined) ?? []), value]
    }
    if (hints.link) this.#response.writeEarlyHints(hints)
  }

  onHead(status: number, headers: RawHeaders, text: string, isWhole: boolean): void {
    const flat = responseHeaders(headers, this.#options.via)
    flat.push(...this.#options.extra)
    if (this.#options.serverTiming) flat.push('server-timing', this.#timing())
    if (isWhole) {
      this.#whole = { status, text, headers: flat }
      return
    }
    this.#writeHead(status, text, flat)
    // The head must not wait for the first bytes of the body: an event stream may be silent for long.
    this.#response.flushHeaders()
  }

  #writeHead(status: number, text: string, flat: string[]): void {
    if (this.#request.httpVersionMajor === 2) this.#response.writeHead(status, grouped(flat))
    else this.#response.writeHead(status, text, flat)
  }

  #timing(): string {
    const { queued = 0, startedAt = now(), attempts = 0 } = this.#exchange ?? {}
    const total = now() - startedAt
    return `queue;dur=${queued.toFixed(1)}, instance;dur=${(total - queued).toFixed(1)}, attempts;desc="${attempts}"`
  }

  onData(chunk: Buffer): void {
    if (this.#whole) {
      this.#chunks.push(chunk)
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
    const response = this.#response
    if (this.#whole) {
      const { status, text, headers } = this.#whole
      this.#writeHead(status, text, headers)
    }
    if (trailers.length > 0) response.addTrailers(rawPairs(trailers))
    const chunks = this.#chunks
    response.end(
      chunks.length === 1 ? chunks[0] : chunks.length === 0 ? undefined : Buffer.concat(chunks),
    )
    this.#exchange = undefined
  }

  /** An answer to a request that asked for no upgrade. */
  onUpgrade(_status: number, _headers: RawHeaders, socket: Duplex): void {
    socket.destroy()
    this.onError(
      new ManyhostError('MANYHOST_ATTEMPT_FAILED', 'the instance switched protocols unasked'),
    )
  }

  onError(error: Error): void {
    this.#exchange = undefined
    const { id, extra } = this.#options
    const headers: Record<string, string> = {}
    for (let index = 0; index < extra.length; index += 2) {
      headers[extra[index] as string] = extra[index + 1] as string
    }
    // A body that was not read to its end would be taken for the next request.
    const close = !this.#request.complete
    answerProblem(this.#request, this.#response, answerable(error), { id, headers, close })
  }
}

/** HTTP/2 takes headers as an object; those of one connection do not exist there. */
function grouped(flat: readonly string[]): Record<string, string | string[]> {
  const headers: Record<string, string | string[]> = {}
  for (let index = 0; index < flat.length; index += 2) {
    const name = (flat[index] as string).toLowerCase()
    const value = flat[index + 1] as string
    const before = headers[name]
    if (before === undefined) headers[name] = value
    else headers[name] = Array.isArray(before) ? [...before, value] : [before, value]
  }
  return headers
}

/**
 * WebSockets over HTTP/2: an extended CONNECT (RFC 8441) becomes an HTTP/1.1 upgrade at one instance, and its stream becomes
 * a tunnel to that instance.
 */
import { createHash, randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { ServerHttp2Stream } from 'node:http2'
import type { Duplex } from 'node:stream'
import { ManyhostError } from '../core/errors.ts'
import type { Exchange, RawHeaders, ResponseSink } from '../dispatch/exchange.ts'
import { rawPairs } from '../dispatch/raw-headers.ts'
import { interimHeaders } from './response-headers.ts'
import { ResponseRelay, type ResponseRelayOptions } from './response-relay.ts'
import { writeHead } from './response-writer.ts'
import { joinStreams } from './tunnel.ts'

/** The protocol of an extended CONNECT; undefined for a plain CONNECT. */
export function connectProtocol({ headers }: IncomingMessage): string | undefined {
  return headers[':protocol'] as string | undefined
}

/** HTTP/2 needs no such key. An instance that speaks HTTP/1.1 must prove by it that it accepts the WebSocket. */
export function createWebSocketKey(): string {
  return randomBytes(16).toString('base64')
}

/** RFC 6455 section 4.2.2. */
function acceptKeyOf(key: string): string {
  const text = `${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`
  return createHash('sha1').update(text).digest('base64')
}

/** The headers for the instance, with the key. */
export function withWebSocketKey(raw: readonly string[], key: string): string[] {
  const headers: string[] = []
  for (let index = 0; index < raw.length; index += 2) {
    const name = raw[index] as string
    if (name !== 'sec-websocket-key') headers.push(name, raw[index + 1] as string)
  }
  return [...headers, 'sec-websocket-key', key]
}

interface WebSocketHandshake {
  /** `Sec-WebSocket-Key` of the request to the instance. */
  readonly key: string
  /** Milliseconds without data for which the tunnel stays open once one side has ended. */
  readonly linger: number
}

/**
 * The sink of such a request. If the instance switches protocols, it becomes a tunnel. Otherwise the client gets the
 * response of the instance, except for a 2xx, which the client would take for the agreement.
 */
export class Http2Tunnel implements ResponseSink {
  readonly #request: IncomingMessage
  readonly #response: ServerResponse & { readonly stream?: ServerHttp2Stream }
  readonly #options: ResponseRelayOptions
  readonly #relay: ResponseRelay
  readonly #handshake: WebSocketHandshake
  #exchange: Exchange | undefined
  #isRefused = false

  constructor(
    request: IncomingMessage,
    response: ServerResponse,
    options: ResponseRelayOptions,
    handshake: WebSocketHandshake,
  ) {
    this.#request = request
    this.#response = response
    this.#options = options
    this.#relay = new ResponseRelay(request, response, options)
    this.#handshake = handshake
  }

  set exchange(exchange: Exchange) {
    this.#exchange = exchange
    this.#relay.exchange = exchange
  }

  onInfo(): void {}

  onHead(status: number, headers: RawHeaders, text: string, whole: boolean): void {
    if (status >= 300) this.#relay.onHead(status, headers, text, whole)
    else this.#refuse(`the instance responded with ${status} and did not switch protocols`)
  }

  onData(chunk: Buffer): void {
    if (!this.#isRefused) this.#relay.onData(chunk)
  }

  onEnd(trailers: RawHeaders): void {
    if (!this.#isRefused) this.#relay.onEnd(trailers)
  }

  onError(error: Error): void {
    if (!this.#isRefused) this.#relay.onError(error)
  }

  #refuse(reason: string): void {
    this.#isRefused = true
    const error = new ManyhostError('MANYHOST_BAD_RESPONSE', reason)
    this.#relay.onError(error)
    this.#exchange?.cancel(error)
  }

  onUpgrade(_status: number, headers: RawHeaders, instance: Duplex): void {
    instance.on('error', () => undefined)
    const { stream } = this.#response
    if (!stream || stream.destroyed) {
      instance.destroy()
      return
    }
    const pairs = rawPairs(headers)
    const proof = pairs.find(([name]) => name.toLowerCase() === 'sec-websocket-accept')
    if (proof?.[1] !== acceptKeyOf(this.#handshake.key)) {
      instance.destroy()
      this.#refuse('the instance switched protocols with a wrong Sec-WebSocket-Accept')
      return
    }
    const { via, id } = this.#options
    const flat = ['via', via, 'x-request-id', id]
    const all = interimHeaders(headers)
    for (let index = 0; index < all.length; index += 2) {
      const name = all[index] as string
      if (name.toLowerCase() !== 'sec-websocket-accept') flat.push(name, all[index + 1] as string)
    }
    if (!writeHead(this.#request, this.#response, 200, '', flat)) {
      instance.destroy()
      return
    }
    joinStreams(stream, instance, this.#handshake.linger)
  }
}

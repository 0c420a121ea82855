/** WebSockets and other protocols: a tunnel from the client to one instance. It holds its slot until it closes. */
import { type IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import type { Exchange, RawHeaders, ResponseSink } from '../dispatch/exchange.ts'
import { rawPairs } from '../dispatch/raw-headers.ts'
import { closeLingering } from './lingering-close.ts'
import { isProtocol } from './protocols.ts'
import { interimHeaders } from './response-headers.ts'
import { ResponseRelay, type ResponseRelayOptions } from './response-relay.ts'
import { joinStreams } from './tunnel.ts'

/** Bytes that a client may send before its tunnel is open. */
const MAX_EARLY_BYTES = 65_536

interface UpgradingClient {
  readonly socket: Duplex
  /** Bytes that followed the request. */
  readonly head: Buffer
  /** The protocols that the client asked for, as the instance is asked for them. */
  readonly protocol: string
  /** Milliseconds without data for which the tunnel stays open once one side has ended. */
  readonly linger: number
}

/** The sink of a request that asked for an upgrade: a tunnel if the instance switches protocols, otherwise its response. */
export class UpgradeTunnel implements ResponseSink {
  readonly #socket: Duplex
  readonly #response: ServerResponse
  readonly #relay: ResponseRelay
  readonly #early: Buffer[]
  readonly #protocol: string
  readonly #linger: number
  #earlyBytes: number

  constructor(
    request: IncomingMessage,
    response: ServerResponse,
    { socket, head, protocol, linger }: UpgradingClient,
    options: ResponseRelayOptions,
  ) {
    this.#protocol = protocol
    this.#socket = socket
    this.#response = response
    this.#relay = new ResponseRelay(request, response, options)
    this.#early = head.length > 0 ? [head] : []
    this.#earlyBytes = head.length
    this.#linger = linger
    // The socket is read while the request waits: a socket that is not read does not notice that its client goes away.
    socket.on('data', this.#onEarly)
    socket.on('end', this.#onGone)
  }

  readonly #onEarly = (chunk: Buffer): void => {
    this.#early.push(chunk)
    this.#earlyBytes += chunk.length
    if (this.#earlyBytes > MAX_EARLY_BYTES) this.#socket.destroy()
  }

  readonly #onGone = (): void => {
    // With a response under way, the client may still read it. Without one, a tunnel with one half is of no use.
    if (!this.#response.headersSent) this.#socket.destroy()
  }

  set exchange(exchange: Exchange) {
    this.#relay.exchange = exchange
  }

  onInfo(): void {}

  onHead(status: number, headers: RawHeaders, text: string, whole: boolean): void {
    this.#relay.onHead(status, headers, text, whole)
  }

  onData(chunk: Buffer): void {
    this.#relay.onData(chunk)
  }

  onEnd(trailers: RawHeaders): void {
    this.#relay.onEnd(trailers)
  }

  onError(error: Error): void {
    this.#relay.onError(error)
  }

  onUpgrade(status: number, headers: RawHeaders, instance: Duplex): void {
    const socket = this.#socket
    instance.on('error', () => undefined)
    if (socket.destroyed) {
      instance.destroy()
      return
    }
    this.#response.detachSocket(socket as Parameters<ServerResponse['detachSocket']>[0])
    socket.off('data', this.#onEarly)
    socket.off('end', this.#onGone)
    socket.write(renderSwitchHead(status, headers, this.#protocol), 'latin1')
    for (const chunk of this.#early) instance.write(chunk)
    joinStreams(socket, instance, this.#linger)
  }
}

/** The 101 for the client. It always has a `Connection`, which some instances leave out. */
function renderSwitchHead(status: number, headers: RawHeaders, protocol: string): string {
  const named = rawPairs(headers).find(([name]) => name.toLowerCase() === 'upgrade')?.[1]
  const switched = named !== undefined && isProtocol(named) ? named : protocol
  let head = `HTTP/1.1 ${status} Switching Protocols\r\nconnection: upgrade\r\nupgrade: ${switched}\r\n`
  const flat = interimHeaders(headers)
  for (let index = 0; index < flat.length; index += 2)
    head += `${flat[index]}: ${flat[index + 1]}\r\n`
  return `${head}\r\n`
}

/** A response on a socket that node:http has released. The socket ends with the response. */
export function createResponse(request: IncomingMessage, socket: Duplex): ServerResponse {
  const response = new ServerResponse(request)
  response.shouldKeepAlive = false
  response.assignSocket(socket as Parameters<ServerResponse['assignSocket']>[0])
  socket.on('drain', () => response.emit('drain'))
  response.once('finish', () => closeLingering(socket))
  return response
}

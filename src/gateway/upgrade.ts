/** WebSockets and other protocols: a tunnel from the client to one instance, which holds its place until it closes. */
import { type IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import type { Exchange, RawHeaders, ResponseSink } from '../dispatch/exchange.ts'
import { rawPairs } from '../dispatch/raw-headers.ts'
import { closeLingering } from './lingering-close.ts'
import { PROTOCOL_PATTERN } from './protocols.ts'
import { interimHeaders } from './response-headers.ts'
import { ResponseRelay, type ResponseRelayOptions } from './response-relay.ts'
import { joinStreams } from './tunnel.ts'

/** Bytes that a client may send before its tunnel is there. */
const MAX_EARLY_BYTES = 65_536

interface UpgradingClient {
  readonly socket: Duplex
  /** What came behind the request already. */
  readonly head: Buffer
  /** What it asked for, as the instance is asked for it. */
  readonly protocol: string
  /** Milliseconds without data for which the tunnel stays when one side has ended. */
  readonly linger: number
}

/** The sink of a request that asked for an upgrade: a tunnel if the instance agrees, an ordinary answer if not. */
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
    // Read while it waits: else nobody would notice that the client goes away.
    socket.on('data', this.#onEarly)
    socket.on('end', this.#onGone)
  }

  readonly #onEarly = (chunk: Buffer): void => {
    this.#early.push(chunk)
    this.#earlyBytes += chunk.length
    if (this.#earlyBytes > MAX_EARLY_BYTES) this.#socket.destroy()
  }

  readonly #onGone = (): void => {
    // Its answer may be under way already; who ends before any came is gone: what would a tunnel be with one end?
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

/** The head by which a client learns of the switch: it always has the `Connection` that some instances leave out. */
function renderSwitchHead(status: number, headers: RawHeaders, protocol: string): string {
  const said = rawPairs(headers).find(([name]) => name.toLowerCase() === 'upgrade')?.[1]
  const switched = said !== undefined && PROTOCOL_PATTERN.test(said) ? said : protocol
  let head = `HTTP/1.1 ${status} Switching Protocols\r\nconnection: upgrade\r\nupgrade: ${switched}\r\n`
  const flat = interimHeaders(headers)
  for (let index = 0; index < flat.length; index += 2)
    head += `${flat[index]}: ${flat[index + 1]}\r\n`
  return `${head}\r\n`
}

/** Writes an ordinary answer on a socket that node:http has let go of; the socket ends with it. */
export function createResponse(request: IncomingMessage, socket: Duplex): ServerResponse {
  const response = new ServerResponse(request)
  response.shouldKeepAlive = false
  response.assignSocket(socket as Parameters<ServerResponse['assignSocket']>[0])
  socket.on('drain', () => response.emit('drain'))
  response.once('finish', () => closeLingering(socket))
  return response
}

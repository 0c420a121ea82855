/** WebSockets and other protocols: a tunnel from the client to one instance, which holds its place until it closes. */
import { type IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { type Exchange, type RawHeaders, rawPairs, type Sink } from '../inside.ts'
import { hangUp } from './hangup.ts'
import { Relay, type RelayOptions } from './relay.ts'
import { join } from './tunnel.ts'

/** Whether it is a protocol to be tunnelled. Those that are HTTP itself, or TLS, end here; they may be left unanswered. */
export function isTunnel(protocol: string): boolean {
  return !/^(?:h2c?|http|tls)\b/i.test(protocol)
}

/** Bytes that a client may send before its tunnel is there. */
const EARLY = 65_536

interface Client {
  readonly socket: Duplex
  /** What came behind the request already. */
  readonly head: Buffer
  /** Milliseconds without data for which the tunnel stays when one side has ended. */
  readonly linger: number
}

/** The sink of a request that asked for an upgrade: a tunnel if the instance agrees, an ordinary answer if not. */
export class Tunnel implements Sink {
  readonly #socket: Duplex
  readonly #response: ServerResponse
  readonly #relay: Relay
  readonly #early: Buffer[]
  readonly #linger: number
  #size: number

  constructor(
    request: IncomingMessage,
    response: ServerResponse,
    { socket, head, linger }: Client,
    options: RelayOptions,
  ) {
    this.#socket = socket
    this.#response = response
    this.#relay = new Relay(request, response, options)
    this.#early = head.length > 0 ? [head] : []
    this.#size = head.length
    this.#linger = linger
    // Read while it waits: else nobody would notice that the client goes away.
    socket.on('data', this.#onEarly)
    socket.on('end', this.#onGone)
  }

  readonly #onEarly = (chunk: Buffer): void => {
    this.#early.push(chunk)
    this.#size += chunk.length
    if (this.#size > EARLY) this.#socket.destroy()
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
    let head = `HTTP/1.1 ${status} Switching Protocols\r\n`
    for (const [name, value] of rawPairs(headers)) head += `${name}: ${value}\r\n`
    socket.write(`${head}\r\n`, 'latin1')
    for (const chunk of this.#early) instance.write(chunk)
    join(socket, instance, this.#linger)
  }
}

/** Writes an ordinary answer on a socket that node:http has let go of; the socket ends with it. */
export function responseOn(request: IncomingMessage, socket: Duplex): ServerResponse {
  const response = new ServerResponse(request)
  response.shouldKeepAlive = false
  response.assignSocket(socket as Parameters<ServerResponse['assignSocket']>[0])
  socket.on('drain', () => response.emit('drain'))
  response.once('finish', () => hangUp(socket))
  return response
}

/** WebSockets and other protocols: a tunnel from the client to one instance, which holds its place until it closes. */
import { type IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import type { Exchange, RawHeaders, Sink } from '../dispatch/exchange.ts'
import { rawPairs } from '../dispatch/raw.ts'
import { Relay, type RelayOptions } from './relay.ts'

/** The sink of a request that asked for an upgrade: a tunnel if the instance agrees, an ordinary answer if not. */
export class Tunnel implements Sink {
  readonly #socket: Duplex
  readonly #head: Buffer
  readonly #relay: Relay

  constructor(request: IncomingMessage, socket: Duplex, head: Buffer, options: RelayOptions) {
    this.#socket = socket
    this.#head = head
    this.#relay = new Relay(request, responseOn(request, socket), options)
    socket.on('error', () => undefined)
  }

  set exchange(exchange: Exchange) {
    this.#relay.exchange = exchange
    this.#socket.once('close', () => {
      if (!exchange.settled) exchange.cancel(new Error('the client went away'))
    })
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
    this.#socket.end()
  }

  onError(error: Error): void {
    this.#relay.onError(error)
    this.#socket.end()
  }

  onUpgrade(status: number, headers: RawHeaders, instance: Duplex): void {
    const socket = this.#socket
    if (socket.destroyed) {
      instance.destroy()
      return
    }
    let head = `HTTP/1.1 ${status} Switching Protocols\r\n`
    for (const [name, value] of rawPairs(headers)) head += `${name}: ${value}\r\n`
    socket.write(`${head}\r\n`, 'latin1')
    if (this.#head.length > 0) instance.write(this.#head)
    join(socket, instance)
    join(instance, socket)
  }
}

/** Passes on bytes, the end, and an abrupt end. */
function join(from: Duplex, to: Duplex): void {
  from.pipe(to)
  from.on('error', () => to.destroy())
  from.once('close', () => {
    if (!from.readableEnded) to.destroy()
  })
}

/** Writes an ordinary answer on a socket that node:http has let go of. */
export function responseOn(request: IncomingMessage, socket: Duplex): ServerResponse {
  const response = new ServerResponse(request)
  response.shouldKeepAlive = false
  response.assignSocket(socket as Parameters<ServerResponse['assignSocket']>[0])
  return response
}

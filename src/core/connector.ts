/**
 * Makes the connections of undici's pools. It mends four things:
 *
 * 1. undici 7.30.2 (nodejs/undici#5360) handles the end of a connection at once, even while a slow reader has paused the
 *    parser:
 *    - after `Connection: close` (each response of Python's HTTP/1.0 server) the parser asserts that it is not paused. It
 *      does so in an event handler, and the process dies;
 *    - on a kept-alive connection, a response that is complete fails if its last chunk is not read yet;
 *    - a reset is taken for the proper end of a response without a length, which is thus cut short silently.
 *    So the end of a connection is delivered only when the parser has read everything and asks for more. A reset is delivered
 *    with another error code.
 * 2. A server that answers an upload early and closes the connection makes the next write fail. Node then destroys the
 *    socket, and the response with it. So a failed write, or read, takes effect only when everything was read that had come.
 * 3. The heads of responses go through `ResponseHeadFilter` before the parser gets them.
 * 4. `connectionFailureOf` says whether a response was refused or the connection ended, which decides whether a request is
 *    sent again. undici has the same error codes for both.
 *
 * The bytes that wait meanwhile are bounded by the buffers of the socket and of the kernel.
 */

import { subscribe } from 'node:diagnostics_channel'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { buildConnector } from 'undici'
import { interceptWrites, type WriteCallback } from './http/node-internals.ts'
import { createResetError } from './http/reset-connection.ts'
import { ResponseHeadFilter } from './http/response-head-filter.ts'
import { after, type Timer } from './time.ts'
import { undiciParserOf } from './undici-internals.ts'

export type ConnectorOptions = NonNullable<Parameters<typeof buildConnector>[0]>

/** Bytes that the head of a response may have: names and values of its fields. The default of `headerSize`. */
export const DEFAULT_HEADER_SIZE = 65_536

/** Milliseconds until a connection must end after a write to it has failed. The kernel reports the end at once. */
const LINGER_MS = 1_000

const NOTHING = Buffer.alloc(0)

export function createConnector(
  options: ConnectorOptions | buildConnector.connector = {},
): buildConnector.connector {
  const connect = typeof options === 'function' ? options : buildConnector(options)
  return (target, callback) =>
    connect(target, (...[error, socket]: Parameters<buildConnector.Callback>) => {
      if (error) callback(error, null)
      else callback(null, patchSocket(socket as Socket))
    })
}

/**
 * Why a connection failed its request:
 * - `refused`: the response is not valid. A second attempt would get the same response;
 * - `ended`: the peer has ended the connection;
 * - `unsent`: the connection still had to send the body of the request before.
 */
export type ConnectionFailure = 'refused' | 'ended' | 'unsent'

const connectionFailures = new WeakMap<Error, ConnectionFailure>()

/** @returns undefined for an error that did not come from a connection of this module */
export function connectionFailureOf(error: Error): ConnectionFailure | undefined {
  return connectionFailures.get(error)
}

/**
 * Whether the response is complete although undici fails it: a 204 or 304 has no body, whatever its `Content-Length` says.
 * undici closes the connection, which is right: a server that sends this may send the body as well.
 */
export function isCompleteDespiteError(error: Error, status: number): boolean {
  const { code } = error as { code?: unknown }
  return (status === 204 || status === 304) && code === 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH'
}

/** Codes of errors with which undici destroys a connection for its own reasons, or for those of its user. */
const OWN_REASONS = new Set([
  'UND_ERR_INFO',
  'UND_ERR_ABORTED',
  'UND_ERR_DESTROYED',
  'UND_ERR_CLOSED',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
])

const connections = new WeakMap<object, PatchedConnection>()

// A documented channel of undici. Nothing else says on which connection a request begins.
subscribe('undici:client:sendHeaders', (message) => {
  const { socket, headers } = message as { socket: object; headers: string }
  connections.get(socket)?.onRequest(headers)
})

/** Patches one socket in place. A subclass is not possible, because TLS sockets have a class of their own. */
export function patchSocket<S extends Duplex>(socket: S): S {
  connections.set(socket, new PatchedConnection(socket))
  return socket
}

class PatchedConnection {
  readonly headFilter = new ResponseHeadFilter()
  readonly #socket: Duplex
  /** The methods of the socket, as they were. */
  readonly #push: Duplex['push']
  readonly #read: Duplex['read']
  readonly #destroy: Duplex['destroy']
  /** The last read found nothing: the parser is not paused and waits for more. */
  #isWaiting = true
  /** The parser has got a chunk at the last read. */
  #isParsing = false
  /** The peer has ended the connection, or it broke: nothing more can be read. */
  #hasEnded = false
  /** Delivers the end of the connection. Set while an end has come and is not delivered yet. */
  #deliverEnd: (() => void) | undefined
  /** The same, for an `end` event of the stream that came while the parser was paused. */
  #deliverEndLater: (() => void) | undefined
  /** The error of a failed write that is held back from the stream. */
  #writeError: NodeJS.ErrnoException | undefined
  /** An empty write is under way that shows whether the end was a reset. */
  #isProbing = false
  #lingerTimer: Timer | undefined

  constructor(socket: Duplex) {
    this.#socket = socket
    this.#push = socket.push
    this.#read = socket.read
    this.#destroy = socket.destroy
    socket.push = (chunk, encoding) => this.#onPush(chunk, encoding)
    socket.read = (size) => this.#onRead(size)
    socket.destroy = (error) => this.#onDestroy(error)
    this.#guardEnd()
    this.#guardWrites()
  }

  /**
   * Called when a request begins. undici uses a connection again as soon as it has a response, even if most of the request's
   * body is still to be written. The next request could wait behind that body for ever, so the connection is destroyed.
   */
  onRequest(head: string): void {
    this.headFilter.startRequest(head)
    if (this.#socket.writableLength === 0 || this.#socket.destroyed) return
    const error = new Error(
      'the request before on this connection was answered early, and its body is not sent yet',
    )
    connectionFailures.set(error, 'unsent')
    this.#destroySocket(error)
  }

  #onPush(chunk: unknown, encoding?: BufferEncoding): boolean {
    if (chunk === null) {
      this.#hasEnded = true
      this.#onEnd()
      return false
    }
    let bytes = chunk
    if (this.headFilter.isExpecting && Buffer.isBuffer(chunk)) {
      try {
        bytes = this.headFilter.filter(chunk)
      } catch (error) {
        this.#refuseResponse(error as Error)
        return false
      }
    }
    // A chunk that was not read yet comes before the end, which may follow in the same turn.
    if (bytes !== NOTHING && (bytes as Buffer).length !== 0) this.#isWaiting = false
    return this.#push.call(this.#socket, bytes, encoding)
  }

  #onRead(size?: number): unknown {
    const chunk: unknown = this.#read.call(this.#socket, size)
    // Streams read 0 bytes to go on by themselves. That is no request for data.
    if (size === 0) return chunk
    this.#isWaiting = chunk === null
    this.#isParsing = chunk !== null
    if (this.#isWaiting && this.#deliverEndLater) {
      this.#deliverEndLater()
      this.#deliverEndLater = undefined
    }
    if (this.#isWaiting && this.#deliverEnd) {
      const end = this.#deliverEnd
      this.#deliverEnd = undefined
      end()
      // Makes the stream emit its end.
      this.#read.call(this.#socket, 0)
    }
    return chunk
  }

  /** Nothing more can be read. Finds out whether that is a proper end or a reset. */
  #onEnd(): void {
    if (this.#deliverEnd) return
    if (!wasReset(this.#socket)) return this.#deliverWhenIdle(this.#pushEnd)
    if (this.#writeError) return this.#onProbed(this.#writeError)
    this.#isProbing = true
    this.#startLinger(createResetError())
    this.#socket.write(NOTHING)
  }

  /**
   * The peer is gone, and the error of a write says how: EPIPE if the peer had ended the connection before the reset,
   * ECONNRESET if not.
   */
  #onProbed(error: NodeJS.ErrnoException | null | undefined): void {
    this.#isProbing = false
    this.#lingerTimer?.clear()
    if (error?.code === 'EPIPE') this.#deliverWhenIdle(this.#pushEnd)
    else this.#deliverWhenIdle(() => this.#socket.destroy(createResetError()))
  }

  readonly #pushEnd = (): void => {
    this.#push.call(this.#socket, null)
  }

  /** Delivers the end as soon as the parser has read everything and waits for more. */
  #deliverWhenIdle(end: () => void): void {
    // After an upgrade there is no parser, and the reader need not call `read`.
    if (this.#isWaiting || undiciParserOf(this.#socket) === undefined) end()
    else this.#deliverEnd = end
  }

  /** The stream emits `end` in a later turn than the end was delivered. The parser may have been paused meanwhile. */
  #guardEnd(): void {
    const socket = this.#socket
    const { addListener } = socket
    const guarded = (listener: () => void): (() => void) => {
      const onEnd = (): void => {
        // A destroyed socket emits `close`, which is enough.
        if (socket.destroyed) return
        if (undiciParserOf(socket)?.paused) this.#deliverEndLater = () => process.nextTick(onEnd)
        else listener.call(socket)
      }
      // As with `once`, the emitter finds the wrapper by this property when the listener is removed.
      return Object.assign(onEnd, { listener })
    }
    // biome-ignore lint/suspicious/noExplicitAny: as node:events has it
    socket.on = (name: string | symbol, listener: (...parts: any[]) => void) => {
      const isUndicis = name === 'end' && undiciParserOf(socket) !== undefined
      addListener.call(socket, name, isUndicis ? guarded(listener) : listener)
      return socket
    }
  }

  /** A stream has one write under way at a time, so one shared callback is enough for all writes. */
  #guardWrites(): void {
    const socket = this.#socket
    let written: WriteCallback
    const onWritten = (error?: Error | null): void => {
      if (error && this.#holdWriteError(error)) return
      if (this.#isProbing) {
        this.#onProbed(error)
        // A tunnel that was ended and then reset: the error would drop the bytes that are not read yet.
        if (error && !socket.destroyed) return void socket.once('end', () => written(error))
      }
      written(error)
    }
    interceptWrites(socket, (callback) => {
      // A stream may write several chunks by its own `_write`, which then hands on our callback.
      if (callback !== onWritten) written = callback
      return onWritten
    })
  }

  /**
   * Holds the error of a write back from the stream, which would drop the bytes that it has read. Meanwhile the writer waits,
   * as for a slow peer.
   * @returns false if the error must go to the stream
   */
  #holdWriteError(error: NodeJS.ErrnoException): boolean {
    const socket = this.#socket
    if (socket.destroyed || undiciParserOf(socket) === undefined) return false
    if (error.code !== 'EPIPE' && error.code !== 'ECONNRESET') return false
    this.#writeError = error
    if (this.#isProbing) this.#onProbed(error)
    else if (!this.#hasEnded) this.#startLinger(error)
    return true
  }

  #startLinger(error: Error): void {
    this.#lingerTimer = after(LINGER_MS, () => {
      connectionFailures.set(error, 'ended')
      this.#destroySocket(error)
    })
    this.#socket.once('close', () => this.#lingerTimer?.clear())
  }

  #onDestroy(error: Error | undefined): Duplex {
    const socket = this.#socket
    const parser = error && !socket.destroyed ? undiciParserOf(socket) : undefined
    if (!parser || !error) return this.#destroySocket(error)
    const { code, syscall } = error as NodeJS.ErrnoException
    const isConnections = syscall === 'read' || syscall === 'write'
    if (isConnections) {
      if (this.#hasEnded && this.#deliverEnd) return socket
      this.#hasEnded = true
      if (isUnreadReset(socket, error)) {
        this.#deliverWhenIdle(this.#pushEnd)
        return socket
      }
      if (!this.#isWaiting) {
        this.#deliverEnd = () => socket.destroy(error)
        return socket
      }
    }
    if (this.#isParsing && !parser.paused && !OWN_REASONS.has(code ?? '')) {
      connectionFailures.set(error, 'refused')
    } else if (this.#hasEnded) connectionFailures.set(error, 'ended')
    return this.#destroySocket(error)
  }

  #refuseResponse(error: Error): void {
    connectionFailures.set(error, 'refused')
    this.#destroySocket(error)
  }

  #destroySocket(error: Error | undefined): Duplex {
    if (error && (error as NodeJS.ErrnoException).code === 'ECONNRESET') this.#hideResetCode(error)
    return this.#destroy.call(this.#socket, error)
  }

  /** undici must not see this code (point 1 above). The code is restored for those who get the error from undici. */
  #hideResetCode(error: NodeJS.ErrnoException): void {
    error.code = 'UND_ERR_SOCKET'
    this.#socket.once('error', () => {
      error.code = 'ECONNRESET'
    })
  }
}

/**
 * Whether a connection that has ended may have been reset. libuv reports a reset as a proper end if it comes together with
 * the last bytes, but such a connection has no peer address any more. Three other cases have none either: a tunnel that this
 * end has ended first, which is excluded here; a connection that was ended and then reset, see `#onProbed`; and sockets of
 * the file system, which have no addresses at all.
 */
function wasReset(socket: Duplex): boolean {
  if (socket.writableEnded) return false
  const { localAddress, remoteAddress } = socket as Partial<Socket>
  return localAddress !== undefined && remoteAddress === undefined
}

/**
 * Finds out whether a connection that has just ended was reset, for a socket outside of undici's pools. If the connection has
 * no peer any more, the error of an empty write shows it; the socket then fails with that error.
 */
export function detectReset(socket: Duplex, onResult: (isReset: boolean) => void): void {
  if (!wasReset(socket)) return onResult(false)
  socket.write(NOTHING, (error) => onResult((error as NodeJS.ErrnoException)?.code !== 'EPIPE'))
}

/**
 * Whether an error is the harmless reset of a socket of the file system. The kernel reports such a reset if the peer has
 * closed without having read everything, as a server does that answers an upload early. If the peer has died, the kernel
 * reports a proper end. So this reset says nothing about the response.
 */
export function isUnreadReset(
  socket: Duplex,
  { code, syscall, errno }: NodeJS.ErrnoException,
): boolean {
  if (code !== 'ECONNRESET' || syscall !== 'read' || errno === undefined) return false
  return socket instanceof Socket && socket.localAddress === undefined
}

/**
 * Makes the connections of undici's pools so that answers are read as they are meant, and so that how a connection ends
 * is told rightly.
 *
 * 1. undici 7.30.2 (nodejs/undici#5360) takes the end of a connection as it comes, also while a slow reader has its
 *    parser paused:
 *    - after `PatchedConnection: close` (each answer of Python's HTTP/1.0 server) the parser asserts that it is not paused, in
 *      an event handler, and the process dies;
 *    - on a kept-alive connection an answer that has come whole, its last chunk not yet taken, is failed;
 *    - a reset connection is taken for the proper end of an answer without a length, which is thus cut short silently.
 *    So the end is told to a parser that asks for more and has had all, and a reset under a false name.
 * 2. A server that answers an upload early and closes makes the next write fail. Node then destroys the socket with the
 *    answer in it. So a failed write waits for what can still be read, and so does a failed read for what was read.
 * 3. The heads of answers go through `ResponseHeadFilter` before the parser has them.
 * 4. Who has to decide whether a request is sent again learns by `fateOf` whether an answer was refused or the connection
 *    ended: undici has the same error codes for both.
 *
 * What waits meanwhile is bounded: it is the socket's own buffer, and the kernel's.
 */
import { subscribe } from 'node:diagnostics_channel'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { buildConnector } from 'undici'
import { interceptWrites, type WriteCallback } from './http/node-internals.ts'
import { ResponseHeadFilter } from './http/response-head-filter.ts'
import { after, type Timer } from './time.ts'
import { undiciParserOf } from './undici-internals.ts'

export type ConnectorOptions = NonNullable<Parameters<typeof buildConnector>[0]>

/** Bytes of an answer's head, names and values of its fields, that are taken where nobody says otherwise. */
export const DEFAULT_HEADER_SIZE = 65_536

/** How long the end of a connection may take that can no longer be written to, in ms. The kernel tells it at once. */
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
 * Why a connection of ours failed its request: `refused` because of what the answer is, which would be the same once more;
 * `ended` by its peer; or `unsent`, because it still had to send the request before this one.
 */
export type ConnectionFailure = 'refused' | 'ended' | 'unsent'

const connectionFailures = new WeakMap<Error, ConnectionFailure>()

/** @returns undefined for an error that did not come from a connection of ours: nobody knows then */
export function connectionFailureOf(error: Error): ConnectionFailure | undefined {
  return connectionFailures.get(error)
}

/**
 * Whether the answer is complete although undici fails it: a 204 or 304 has no body whatever its `Content-Length` says.
 * The connection is closed all the same, because a server that sends this may send the body as well.
 */
export function isCompleteDespiteError(error: Error, status: number): boolean {
  const { code } = error as { code?: unknown }
  return (status === 204 || status === 304) && code === 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH'
}

/** Errors by which undici destroys a connection for reasons of its own or its user's. */
const OWN_REASONS = new Set([
  'UND_ERR_INFO',
  'UND_ERR_ABORTED',
  'UND_ERR_DESTROYED',
  'UND_ERR_CLOSED',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
])

const connections = new WeakMap<object, PatchedConnection>()

// undici's documented channel: the one place that says on which connection a request begins.
subscribe('undici:client:sendHeaders', (message) => {
  const { socket, headers } = message as { socket: object; headers: string }
  connections.get(socket)?.onRequest(headers)
})

/** Changes one socket in place: a subclass would not do, TLS has its own. */
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
  /** The last read found nothing: the parser is not paused and waits. */
  #isWaiting = true
  /** The parser has the last chunk, unless it is paused. */
  #isParsing = false
  /** The peer has ended the connection, or it broke: nothing more can be read. */
  #hasEnded = false
  /** What tells the end, when it has come and nobody was told. */
  #deliverEnd: (() => void) | undefined
  /** The same, for an end that came out of the stream while the parser was paused. */
  #deliverEndLater: (() => void) | undefined
  /** Why nothing can be written any more. */
  #writeError: NodeJS.ErrnoException | undefined
  /** Asks whether the end that has come is a reset. */
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
   * A request begins. undici takes a connection as free when it has an answer, also to a request of which most waits to be
   * written: behind that, the next request could wait for ever.
   */
  onRequest(head: string): void {
    this.headFilter.startRequest(head)
    if (this.#socket.writableLength === 0 || this.#socket.destroyed) return
    const error = new Error('the request before was answered early, and is not sent yet')
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
    // What has come, and was not asked for yet, comes before the end that may follow in the same turn.
    if (bytes !== NOTHING && (bytes as Buffer).length !== 0) this.#isWaiting = false
    return this.#push.call(this.#socket, bytes, encoding)
  }

  #onRead(size?: number): unknown {
    const chunk: unknown = this.#read.call(this.#socket, size)
    // Streams themselves read 0 bytes, to get on; that is nobody's question.
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
      // Makes the stream look, and say that it has ended.
      this.#read.call(this.#socket, 0)
    }
    return chunk
  }

  /** Nothing more can be read: was that an end, or a reset? */
  #onEnd(): void {
    if (this.#deliverEnd) return
    if (!wasReset(this.#socket)) return this.#deliverWhenIdle(this.#pushEnd)
    if (this.#writeError) return this.#onProbed(this.#writeError)
    this.#isProbing = true
    this.#startLinger(createResetError())
    this.#socket.write(NOTHING)
  }

  /**
   * There is no peer any more. What a write says tells apart how it went: EPIPE, if it had ended the connection before it
   * was reset; ECONNRESET, if not.
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

  /** Tells the end to a parser that waits and has had all. */
  #deliverWhenIdle(end: () => void): void {
    // After an upgrade there is no parser, and whoever reads need not ask.
    if (this.#isWaiting || undiciParserOf(this.#socket) === undefined) end()
    else this.#deliverEnd = end
  }

  /** The end is told in a later turn than it was asked for, when the parser may have had another reason to pause. */
  #guardEnd(): void {
    const socket = this.#socket
    const { addListener } = socket
    const guarded = (listener: () => void): (() => void) => {
      const onEnd = (): void => {
        // Of what is destroyed, `close` tells.
        if (socket.destroyed) return
        if (undiciParserOf(socket)?.paused) this.#deliverEndLater = () => process.nextTick(onEnd)
        else listener.call(socket)
      }
      // By this, as with `once`, the emitter finds it when the listener is removed.
      return Object.assign(onEnd, { listener })
    }
    // biome-ignore lint/suspicious/noExplicitAny: as node:events has it
    socket.on = (name: string | symbol, listener: (...parts: any[]) => void) => {
      const isUndicis = name === 'end' && undiciParserOf(socket) !== undefined
      addListener.call(socket, name, isUndicis ? guarded(listener) : listener)
      return socket
    }
  }

  /** One write is under way at a time, so that one callback can stand for all of the stream. */
  #guardWrites(): void {
    const socket = this.#socket
    let written: WriteCallback
    const onWritten = (error?: Error | null): void => {
      if (error && this.#holdWriteError(error)) return
      if (this.#isProbing) {
        this.#onProbed(error)
        // A tunnel that was ended before it was reset: the error would drop what is not read yet.
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
   * Whether a failed write is kept from the stream, which would drop what it has read. The writer waits meanwhile as for
   * a slow peer.
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

  /** undici is not to know this code; who gets the error from it later is. */
  #hideResetCode(error: NodeJS.ErrnoException): void {
    error.code = 'UND_ERR_SOCKET'
    this.#socket.once('error', () => {
      error.code = 'ECONNRESET'
    })
  }
}

/**
 * libuv may tell the reset of a connection as a proper end (it does so where the reset comes together with the last
 * bytes), but such a connection has no peer any more. Nor has one that both ends have ended, ours first, as a tunnel may:
 * that is no reset. Nor has one that was ended, and then reset: see `#onProbed`. Sockets of the file system have no
 * addresses at all.
 */
function wasReset(socket: Duplex): boolean {
  if (socket.writableEnded) return false
  const { localAddress, remoteAddress } = socket as Partial<Socket>
  return localAddress !== undefined && remoteAddress === undefined
}

/**
 * Tells whether a connection was reset that has just said its end, for a socket that no pool has. Where it has no peer any
 * more, an empty write asks the kernel, and the socket then fails with what it said.
 */
export function detectReset(socket: Duplex, onResult: (isReset: boolean) => void): void {
  if (!wasReset(socket)) return onResult(false)
  socket.write(NOTHING, (error) => onResult((error as NodeJS.ErrnoException)?.code !== 'EPIPE'))
}

/**
 * On a socket of the file system the kernel reports a reset where the peer has closed and had not read all, as a server does
 * that answers an upload early. It reports a proper end where the peer has died: so the reset says nothing about the answer.
 */
export function isUnreadReset(
  socket: Duplex,
  { code, syscall, errno }: NodeJS.ErrnoException,
): boolean {
  if (code !== 'ECONNRESET' || syscall !== 'read' || errno === undefined) return false
  return socket instanceof Socket && socket.localAddress === undefined
}

function createResetError(): Error {
  return Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET', syscall: 'read' })
}

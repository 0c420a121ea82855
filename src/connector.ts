/**
 * Makes the connections of undici's pools so that how one ends is told rightly. undici 7.30.2 (nodejs/undici#5360)
 * takes the end of a connection as it comes, also while a slow reader has its parser paused:
 *
 * - after `Connection: close` (each answer of Python's HTTP/1.0 server) the parser asserts that it is not paused, in
 *   an event handler, and the process dies;
 * - on a kept-alive connection an answer that has come whole, its last chunk not yet taken, is failed;
 * - a reset connection is taken for the proper end of an answer without a length, which is thus cut short silently.
 *
 * So the end is told to a parser that asks for more and has had all, and a reset under a false name.
 * What waits meanwhile is bounded: it is the socket's own buffer, and the kernel's.
 */
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { buildConnector } from 'undici'

export type ConnectorOptions = NonNullable<Parameters<typeof buildConnector>[0]>

export function connector(
  options: ConnectorOptions | buildConnector.connector = {},
): buildConnector.connector {
  const connect = typeof options === 'function' ? options : buildConnector(options)
  return (target, callback) =>
    connect(target, (...[error, socket]: Parameters<buildConnector.Callback>) => {
      if (error) callback(error, null)
      else callback(null, patient(socket as Socket))
    })
}

/** Changes one socket in place: a subclass would not do, TLS has its own. */
export function patient<S extends Duplex>(socket: S): S {
  const { push, read, destroy } = socket
  /** The last read found nothing: the parser is not paused and waits. */
  let isWaiting = true
  /** What tells the end, when it has come and nobody was told. */
  let tell: (() => void) | undefined
  /** The same, for an end that came out of the stream while the parser was paused. */
  let tellLater: (() => void) | undefined

  socket.push = (chunk, encoding) => {
    if (chunk !== null) {
      // What has come, and was not asked for yet, comes before the end that may follow in the same turn.
      isWaiting = false
      return push.call(socket, chunk, encoding)
    }
    const isReset = wasReset(socket)
    const end = (): void => {
      if (isReset) socket.destroy(reset())
      else push.call(socket, null)
    }
    // After an upgrade there is no parser, and whoever reads need not ask.
    if (isWaiting || parserOf(socket) === undefined) end()
    else tell = end
    return false
  }

  socket.read = (size) => {
    const chunk: unknown = read.call(socket, size)
    // Streams themselves read 0 bytes, to get on; that is nobody's question.
    if (size === 0) return chunk
    isWaiting = chunk === null
    if (isWaiting && tellLater) {
      tellLater()
      tellLater = undefined
    }
    if (isWaiting && tell) {
      const end = tell
      tell = undefined
      end()
      // Makes the stream look, and say that it has ended.
      read.call(socket, 0)
    }
    return chunk
  }

  const { addListener } = socket
  /** The end is told in a later turn than it was asked for, when the parser may have had another reason to pause. */
  const guarded = (listener: () => void): (() => void) => {
    const onEnd = (): void => {
      // Of what is destroyed, `close` tells.
      if (socket.destroyed) return
      if (parserOf(socket)?.paused) tellLater = () => process.nextTick(onEnd)
      else listener.call(socket)
    }
    // By this, as with `once`, the emitter finds it when the listener is removed.
    return Object.assign(onEnd, { listener })
  }
  // biome-ignore lint/suspicious/noExplicitAny: as node:events has it
  socket.on = (name: string | symbol, listener: (...parts: any[]) => void) => {
    const isUndicis = name === 'end' && parserOf(socket) !== undefined
    addListener.call(socket, name, isUndicis ? guarded(listener) : listener)
    return socket
  }

  socket.destroy = (error) => {
    if (error && (error as NodeJS.ErrnoException).code === 'ECONNRESET') disguise(error)
    return destroy.call(socket, error)
  }

  /** undici is not to know this code; who gets the error from it later is. */
  const disguise = (error: NodeJS.ErrnoException): void => {
    error.code = 'UND_ERR_SOCKET'
    socket.once('error', () => {
      error.code = 'ECONNRESET'
    })
  }
  return socket
}

/** undici keeps its parser at the socket, under a symbol of its own. Without one there is nothing to be paused. */
function parserOf(socket: Duplex): { readonly paused?: boolean } | undefined {
  const symbols = Object.getOwnPropertySymbols(socket)
  const key = symbols.find(({ description }) => description === 'parser')
  return (key && (Reflect.get(socket, key) as { paused?: boolean } | null)) ?? undefined
}

/**
 * libuv tells the reset of a connection that was not being read as a proper end, but such a connection has no peer any
 * more. Nor has one that both ends have ended, ours first, as a tunnel may: that is no reset. Sockets of the file system
 * have no addresses at all.
 */
export function wasReset(socket: Duplex): boolean {
  if (socket.writableEnded) return false
  const { localAddress, remoteAddress } = socket as Partial<Socket>
  return localAddress !== undefined && remoteAddress === undefined
}

function reset(): Error {
  return Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET', syscall: 'read' })
}

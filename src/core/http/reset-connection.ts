/** Ends a connection with a reset, so that its peer knows that the bytes it has got are not complete. */
import type { Socket } from 'node:net'

/**
 * A connection whose own end is just being sent is closed and not reset: it has sent everything, and libuv would refuse the
 * reset. node:net would then leave the handle open for ever.
 */
export function resetConnection(socket: Socket): void {
  const { writableEnded, writableFinished, writableLength } = socket
  const isEnding = writableEnded && !writableFinished && writableLength === 0
  const isPlainTcp = !('encrypted' in socket) && socket.localAddress !== undefined
  if (isPlainTcp && !isEnding) socket.resetAndDestroy()
  else socket.destroy()
}

/** The error of a stream whose peer has reset the connection, as node:net makes it. */
export function createResetError(): Error {
  return Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET', syscall: 'read' })
}

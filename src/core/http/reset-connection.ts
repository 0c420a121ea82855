/** The end of a connection by a reset, so that its peer does not take what has come for all. */
import type { Socket } from 'node:net'

/**
 * node:net loses the descriptor for ever when a connection is reset whose own end is just being sent: libuv refuses that
 * reset, and the handle stays open. Such a connection has sent everything, and is closed.
 */
export function resetConnection(socket: Socket): void {
  const { writableEnded, writableFinished, writableLength } = socket
  const isEnding = writableEnded && !writableFinished && writableLength === 0
  const isPlainTcp = !('encrypted' in socket) && socket.localAddress !== undefined
  if (isPlainTcp && !isEnding) socket.resetAndDestroy()
  else socket.destroy()
}

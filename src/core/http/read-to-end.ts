/**
 * Reads a connection to its end although writing to it has failed, or reading: what its peer had sent before may be a whole
 * answer, and node:net destroys the socket with that in it. For sockets that no pool has; those of pools have `connector`.
 */
import type { Socket } from 'node:net'
import { detectReset, isUnreadReset } from '../connector.ts'
import { every } from '../time.ts'
import { interceptWrites } from './node-internals.ts'

/** How long a connection may say nothing that cannot be written to and is read, in ms. The kernel tells its end at once. */
const SILENCE_LIMIT = 1_000

type SocketFailure = NodeJS.ErrnoException

/** @param onEnd told once all was read, and before `end` does anything else, whether the peer has ended it properly */
export function readToEnd(socket: Socket, onEnd: (isProper: boolean) => void): void {
  let failure: SocketFailure | undefined
  let fail: (() => void) | undefined
  const { destroy } = socket
  const keep = (error: SocketFailure, then: () => void): void => {
    failure ??= error
    fail ??= then
  }
  interceptWrites(socket, (callback) => (error?: SocketFailure | null) => {
    if (!error || !isBroken(error) || socket.destroyed || socket.readableEnded) {
      return callback(error)
    }
    // The writer waits meanwhile as for a slow peer.
    keep(error, () => callback(error))
    endWhenSilent(socket, () => callback(error))
  })
  socket.destroy = (error?: SocketFailure) => {
    if (error?.syscall !== 'read' || socket.destroyed || socket.readableEnded) {
      return destroy.call(socket, error)
    }
    keep(error, () => destroy.call(socket, error))
    socket.push(null)
    // Makes the stream look, and say that it has ended.
    socket.read(0)
    return socket
  }
  socket.once('end', () => {
    if (!failure) return detectReset(socket, (isReset) => onEnd(!isReset))
    // EPIPE: the peer had ended the connection before it was reset.
    onEnd(failure.code === 'EPIPE' || isUnreadReset(socket, failure))
    fail?.()
  })
}

function isBroken({ code }: SocketFailure): boolean {
  return code === 'EPIPE' || code === 'ECONNRESET'
}

function endWhenSilent(socket: Socket, end: () => void): void {
  let before = -1
  const timer = every(SILENCE_LIMIT, () => {
    // Whoever has paused it reads the rest later.
    if (socket.readableFlowing && socket.bytesRead === before) end()
    before = socket.bytesRead
  })
  socket.once('close', () => timer.clear())
}

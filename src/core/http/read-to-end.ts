/**
 * Reads a connection to its end although a write to it, or a read, has failed. The peer may have sent a whole response before,
 * and node:net would destroy the socket with these bytes in it. For sockets outside of undici's pools; `connector.ts` does the
 * same for those of the pools.
 */
import type { Socket } from 'node:net'
import { detectReset, isUnreadReset } from '../connector.ts'
import { every } from '../time.ts'
import { interceptWrites } from './node-internals.ts'

/** Milliseconds without a byte after which a connection ends whose write has failed. The kernel reports its end at once. */
const SILENCE_LIMIT = 1_000

type SocketFailure = NodeJS.ErrnoException

/** @param onEnd called when everything was read, before other listeners of `end`: whether the peer ended it properly */
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
    // Meanwhile the writer waits, as for a slow peer.
    keep(error, () => callback(error))
    endWhenSilent(socket, () => callback(error))
  })
  socket.destroy = (error?: SocketFailure) => {
    if (error?.syscall !== 'read' || socket.destroyed || socket.readableEnded) {
      return destroy.call(socket, error)
    }
    keep(error, () => destroy.call(socket, error))
    socket.push(null)
    // Makes the stream emit its end.
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
    // A reader that has paused the socket reads the rest later.
    if (socket.readableFlowing && socket.bytesRead === before) end()
    before = socket.bytesRead
  })
  socket.once('close', () => timer.clear())
}

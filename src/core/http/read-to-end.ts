/**
 * Reads a connection to its end although writing to it has failed, or reading: what its peer had sent before may be a whole
 * answer, and node:net destroys the socket with that in it. For sockets that no pool has; those of pools have `connector`.
 */
import type { Socket } from 'node:net'
import { askReset, isUnreadReset } from '../connector.ts'
import { every } from '../time.ts'

/** How long a connection may say nothing that cannot be written to and is read, in ms. The kernel tells its end at once. */
const LINGER = 1_000

type Failure = NodeJS.ErrnoException

/** @param tell told once all was read, and before `end` does anything else, whether the peer has ended it properly */
export function readToEnd(socket: Socket, tell: (isProper: boolean) => void): void {
  let failure: Failure | undefined
  let fail: (() => void) | undefined
  const { _write, _writev, destroy } = socket
  const keep = (error: Failure, then: () => void): void => {
    failure ??= error
    fail ??= then
  }
  const guarded =
    (callback: (error?: Error | null) => void) =>
    (error?: Failure | null): void => {
      if (!error || !isBroken(error) || socket.destroyed || socket.readableEnded) {
        return callback(error)
      }
      // The writer waits meanwhile as for a slow peer.
      keep(error, () => callback(error))
      endIfSilent(socket, () => callback(error))
    }
  socket._write = (chunk, encoding, callback) => {
    _write.call(socket, chunk, encoding, guarded(callback))
  }
  if (_writev)
    socket._writev = (chunks, callback) => _writev.call(socket, chunks, guarded(callback))
  socket.destroy = (error?: Failure) => {
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
    if (!failure) return askReset(socket, (isReset) => tell(!isReset))
    // EPIPE: the peer had ended the connection before it was reset.
    tell(failure.code === 'EPIPE' || isUnreadReset(socket, failure))
    fail?.()
  })
}

function isBroken({ code }: Failure): boolean {
  return code === 'EPIPE' || code === 'ECONNRESET'
}

function endIfSilent(socket: Socket, end: () => void): void {
  let before = -1
  const timer = every(LINGER, () => {
    // Whoever has paused it reads the rest later.
    if (socket.readableFlowing && socket.bytesRead === before) end()
    before = socket.bytesRead
  })
  socket.once('close', () => timer.clear())
}

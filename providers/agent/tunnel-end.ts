/**
 * How a lane ends. A connection that breaks on its way can look like one that its server has ended properly: a killed
 * agent's kernel closes its sockets just so. An answer without a length would be cut short by that, silently. So the end
 * of a lane counts when its agent says that the server's own connection has ended; else it is taken for a reset.
 */
import type { Duplex } from 'node:stream'
import { resolveWithin } from '../../src/core/time.ts'

/** Longest that the agent's word may take after the end itself, in ms. */
const PROOF_TIMEOUT = 5_000

/** @param serverEnded resolves with whether the server itself has ended its connection */
export function holdEndUntilProven<S extends Duplex>(socket: S, serverEnded: Promise<boolean>): S {
  const { push } = socket
  socket.push = (chunk, encoding) => {
    if (chunk !== null) return push.call(socket, chunk, encoding)
    void resolveWithin(PROOF_TIMEOUT, serverEnded).then((isTrue) => {
      if (socket.destroyed) return
      if (isTrue) {
        push.call(socket, null)
        // Makes a stream that was asked for more, and has nothing, look again.
        socket.read(0)
      } else socket.destroy(createResetError())
    })
    return false
  }
  return socket
}

function createResetError(): Error {
  return Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET', syscall: 'read' })
}

/**
 * How a tunnel ends. A tunnel that breaks on its way can look like one that the server has ended properly: when an agent
 * is killed, its kernel closes its sockets in the same way. A response without a length would then be cut short
 * silently. So the end of a tunnel counts only when the agent says that the server has ended its own connection; without
 * that, it is treated as a reset.
 */

import type { Duplex } from 'node:stream'
import { createResetError } from '../../src/core/http/reset-connection.ts'
import { resolveWithin } from '../../src/core/time.ts'

/** Milliseconds to wait, after the end of a tunnel, for the agent's message about how the server has ended. */
const PROOF_TIMEOUT = 5_000

/** @param serverEnded resolves with whether the server itself has ended its connection */
export function holdEndUntilProven<S extends Duplex>(socket: S, serverEnded: Promise<boolean>): S {
  const { push } = socket
  socket.push = (chunk, encoding) => {
    if (chunk !== null) return push.call(socket, chunk, encoding)
    void resolveWithin(PROOF_TIMEOUT, serverEnded).then((isProper) => {
      if (socket.destroyed) return
      if (isProper) {
        push.call(socket, null)
        // Makes a stream that was asked for more data, and has none, notice the end.
        socket.read(0)
      } else socket.destroy(createResetError())
    })
    return false
  }
  return socket
}

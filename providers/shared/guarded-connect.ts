/** A function of the user that makes connections, held to undici's contract: one call of the callback, with a socket. */
import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import type { buildConnector } from 'undici'
import { describe } from '../../src/core/describe.ts'
import { asError, describeError, ManyhostError } from '../../src/core/errors.ts'
import { after } from '../../src/core/time.ts'
import { catchRejection } from '../../src/core/user-functions.ts'

/** How long one connection may take, in ms: longer than any network's own timeout that is in common use. */
const CONNECT_TIMEOUT = 30_000

export function guardConnect(given: buildConnector.connector): buildConnector.connector {
  return (options, callback) => {
    let isOver = false
    const end = (error: Error | null, socket: Socket | null): void => {
      // A second socket is nobody's.
      if (isOver) return void (isSocket(socket) && socket.destroy())
      isOver = true
      timer.clear()
      if (error) callback(error, null)
      else if (isSocket(socket)) callback(null, socket)
      else
        callback(createConnectError(`answered ${describe(socket)}; it must answer a socket`), null)
    }
    const threw = (thrown: unknown): void =>
      end(createConnectError(`threw: ${describeError(thrown)}`, asError(thrown)), null)
    const timer = after(CONNECT_TIMEOUT, () =>
      end(createConnectError(`has not ended within ${CONNECT_TIMEOUT} ms`), null),
    )
    try {
      catchRejection(
        given(options, (error, socket) => end(error ? asError(error) : null, socket)),
        threw,
      )
    } catch (thrown) {
      threw(thrown)
    }
  }
}

function isSocket(value: unknown): value is Socket {
  return value instanceof Duplex
}

function createConnectError(how: string, cause?: Error): ManyhostError {
  return new ManyhostError('MANYHOST_ATTEMPT_FAILED', `the function \`connect\` ${how}`, {
    ...(cause && { cause }),
  })
}

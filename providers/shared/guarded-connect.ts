/** Makes a user's `connect` function keep undici's contract: it calls the callback once, with a socket or an error. */
import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import type { buildConnector } from 'undici'
import { describe } from '../../src/core/describe.ts'
import { asError, describeError, ManyhostError } from '../../src/core/errors.ts'
import { after } from '../../src/core/time.ts'
import { catchRejection } from '../../src/core/user-functions.ts'

/** Longest time of one connection, in ms. It is longer than the usual timeouts of networks. */
const CONNECT_TIMEOUT = 30_000

export function guardConnect(given: buildConnector.connector): buildConnector.connector {
  return (options, callback) => {
    let isOver = false
    const end = (error: Error | null, socket: Socket | null): void => {
      // Nobody takes the socket of a second call.
      if (isOver) return void (isSocket(socket) && socket.destroy())
      isOver = true
      timer.clear()
      if (error) callback(error, null)
      else if (isSocket(socket)) callback(null, socket)
      else callback(createConnectError(`gave ${describe(socket)}; it must give a socket`), null)
    }
    const threw = (thrown: unknown): void =>
      end(createConnectError(`threw: ${describeError(thrown)}`, asError(thrown)), null)
    const timer = after(CONNECT_TIMEOUT, () =>
      end(createConnectError(`did not call back within ${CONNECT_TIMEOUT} ms`), null),
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

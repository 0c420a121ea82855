/** What happens on a connection of HTTP/1.1 beside its requests: its client sends what is no request. */
import type { ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { ManyhostError } from '../core/errors.ts'
import { currentResponse } from '../core/http/node-internals.ts'
import { closeLingering, renderErrorResponse } from './lingering-close.ts'

const LAST_RESPONSE = Symbol('the answer to the last request')
const MALFORMED = Symbol('what came last was no HTTP')

type TrackedConnection = Duplex & {
  [LAST_RESPONSE]?: ServerResponse | undefined
  [MALFORMED]?: true
}

/** Notes that a request came: requests of one connection are answered in their order. */
export function trackLastResponse(socket: object, response: ServerResponse): void {
  ;(socket as TrackedConnection)[LAST_RESPONSE] = response
  response.on('close', forgetResponse)
}

/** An idle connection is not to hold its last request and answer: they are larger than itself. */
function forgetResponse(this: ServerResponse): void {
  const socket = this.req.socket as TrackedConnection
  if (socket[LAST_RESPONSE] === this) socket[LAST_RESPONSE] = undefined
}

/**
 * For a connection that node:http has let go of, because of an upgrade: calls when all requests before have been
 * answered, and never when the connection has ended with one of them.
 */
export function afterResponses(given: Duplex, go: () => void): void {
  const socket: TrackedConnection = given
  const last = socket[LAST_RESPONSE]
  if (!currentResponse(socket) || !last) return go()
  // Nobody else tells those answers any more that the client has read what they wrote.
  const onDrain = (): void => void currentResponse(socket)?.emit('drain')
  socket.on('drain', onDrain)
  last.once('close', () => {
    socket.off('drain', onDrain)
    if (socket.writable) go()
  })
}

/** What came is no HTTP, or came too slowly. Requests before it get their answers first. */
export function rejectMalformed(
  given: Duplex,
  status: number,
  title: string,
  detail: string,
): void {
  const socket: TrackedConnection = given
  if (socket[MALFORMED]) return
  socket[MALFORMED] = true
  const last = socket[LAST_RESPONSE]
  // Who was told already that this is the end is not told twice.
  const words =
    last?.shouldKeepAlive === false ? undefined : renderErrorResponse(status, title, detail)
  if (!last || last.writableFinished) return closeLingering(socket, words)
  const { req: request } = last
  // An answer that was given without the body waits for those before it, too.
  if (request.complete || last.writableEnded) {
    last.once('finish', () => closeLingering(socket, words))
  } else if (!last.headersSent && request.listenerCount('error') > 0) {
    // Its body is at fault. Whoever reads it answers, behind the answers that come before.
    request.emit('error', new ManyhostError('MANYHOST_BAD_REQUEST', `the request's ${detail}`))
  } else {
    socket.destroy()
  }
}

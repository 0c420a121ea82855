/** Bytes on an HTTP/1.1 connection that are not a request: an upgrade behind other requests, or no HTTP at all. */
import type { ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { ManyhostError } from '../core/errors.ts'
import { currentResponse } from '../core/http/node-internals.ts'
import { closeLingering, renderErrorResponse } from './lingering-close.ts'

const LAST_RESPONSE = Symbol('response to the last request')
const MALFORMED = Symbol('malformed bytes arrived')

type TrackedConnection = Duplex & {
  [LAST_RESPONSE]?: ServerResponse | undefined
  [MALFORMED]?: true
}

/** Remembers the response of the newest request: the responses of one connection are written in order. */
export function trackLastResponse(socket: object, response: ServerResponse): void {
  ;(socket as TrackedConnection)[LAST_RESPONSE] = response
  response.on('close', forgetResponse)
}

/** An idle connection must not hold its last request and response: they are larger than the connection itself. */
function forgetResponse(this: ServerResponse): void {
  const socket = this.req.socket as TrackedConnection
  if (socket[LAST_RESPONSE] === this) socket[LAST_RESPONSE] = undefined
}

/**
 * For a connection that node:http has released because of an upgrade: calls `go` when the responses to all earlier
 * requests were written; never if the connection ended with one of these responses.
 */
export function afterResponses(given: Duplex, go: () => void): void {
  const socket: TrackedConnection = given
  const last = socket[LAST_RESPONSE]
  if (!currentResponse(socket) || !last) return go()
  // node:http no longer forwards 'drain' to the response that is being written.
  const onDrain = (): void => void currentResponse(socket)?.emit('drain')
  socket.on('drain', onDrain)
  last.once('close', () => {
    socket.off('drain', onDrain)
    if (socket.writable) go()
  })
}

/** Responds to bytes that are not HTTP, or that came too slowly. Earlier requests get their responses first. */
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
  // A client that was told already that the connection ends is not told again.
  const response =
    last?.shouldKeepAlive === false ? undefined : renderErrorResponse(status, title, detail)
  if (!last || last.writableFinished) return closeLingering(socket, response)
  const { req: request } = last
  // A response that did not wait for the request body may still wait for earlier responses.
  if (request.complete || last.writableEnded) {
    last.once('finish', () => closeLingering(socket, response))
  } else if (!last.headersSent && request.listenerCount('error') > 0) {
    // The body of the last request is malformed. Its reader responds, after the earlier responses.
    request.emit('error', new ManyhostError('MANYHOST_BAD_REQUEST', `the request's ${detail}`))
  } else {
    socket.destroy()
  }
}

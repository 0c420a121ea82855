/** What happens on a connection of HTTP/1.1 beside its requests: its client sends what is no request. */
import type { ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { ManyhostError } from '../errors.ts'
import { hangUp, lastWords } from './hangup.ts'

const LAST = Symbol('the answer to the last request')
const BROKEN = Symbol('what came last was no HTTP')

type Marked = Duplex & {
  [LAST]?: ServerResponse | undefined
  [BROKEN]?: true
}

/** Notes that a request came: requests of one connection are answered in their order. */
export function noteRequest(socket: object, response: ServerResponse): void {
  ;(socket as Marked)[LAST] = response
  response.on('close', forget)
}

/** An idle connection is not to hold its last request and answer: they are larger than itself. */
function forget(this: ServerResponse): void {
  const socket = this.req.socket as Marked
  if (socket[LAST] === this) socket[LAST] = undefined
}

/** What came is no HTTP, or came too slowly. Requests before it get their answers first. */
export function onMalformed(given: Duplex, status: number, title: string, detail: string): void {
  const socket: Marked = given
  if (socket[BROKEN]) return
  socket[BROKEN] = true
  const last = socket[LAST]
  // Who was told already that this is the end is not told twice.
  const words = last?.shouldKeepAlive === false ? undefined : lastWords(status, title, detail)
  if (!last || last.writableFinished) return hangUp(socket, words)
  const { req: request } = last
  if (request.complete) {
    last.once('finish', () => hangUp(socket, words))
  } else if (!last.headersSent && request.listenerCount('error') > 0) {
    // Its body is at fault. Whoever reads it answers, behind the answers that come before.
    request.emit('error', new ManyhostError('MANYHOST_BAD_REQUEST', `the request's ${detail}`))
  } else {
    socket.destroy()
  }
}

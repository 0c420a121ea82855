/**
 * Ends a connection so that its client gets the response. If a socket with unread input is closed, the kernel sends a reset,
 * which can overtake the response (RFC 9112 section 9.6). So the input is read and discarded for a while.
 */
import type { Duplex } from 'node:stream'
import { createProblem, PROBLEM_TYPE } from '../core/http/problem.ts'
import { afterUnref } from '../core/time.ts'

/** Milliseconds for which input is discarded. */
const LINGER_MS = 1_000

export function closeLingering(socket: Duplex, response?: string): void {
  if (socket.destroyed) return
  socket.end(response)
  socket.on('data', () => undefined)
  socket.resume()
  const timer = afterUnref(LINGER_MS, () => socket.destroy())
  socket.once('end', () => {
    if (socket.writableFinished) socket.destroy()
  })
  socket.once('close', () => timer.clear())
}

/** Makes node:http end this connection in that way, after the response to a request that was not read to its end. */
export function closeLingeringLater(socket: Duplex): void {
  if ('destroySoon' in socket) socket.destroySoon = () => closeLingering(socket)
}

/** A whole response as text, for bytes that never became a request: node:http has no response object for them. */
export function renderErrorResponse(status: number, title: string, detail: string): string {
  const code = 'MANYHOST_BAD_REQUEST'
  const type = `urn:manyhost:error:${code}`
  const problem = createProblem(status, detail, { type, title, code, retryable: false })
  const body = JSON.stringify(problem)
  return (
    `HTTP/1.1 ${status} ${title}\r\ncontent-type: ${PROBLEM_TYPE}\r\n` +
    `content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`
  )
}

/** The differences between an answer over HTTP/1.1 and one over HTTP/2. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { constants, type ServerHttp2Stream } from 'node:http2'
import { Socket } from 'node:net'
import { hangUpLater } from './hangup.ts'
import { endInPieces } from './two.ts'

type Response2 = ServerResponse & { readonly stream: ServerHttp2Stream }

/** @param flat names and values in turn */
export function writeHead(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  text: string,
  flat: string[],
): void {
  if (request.httpVersionMajor === 2) {
    response.writeHead(status, grouped(flat))
    return
  }
  // A body that was not read to its end would be taken for the next request.
  if (!request.complete) endWith(request, response)
  if (text === '') response.writeHead(status, flat)
  else response.writeHead(status, text, flat)
}

/** Up to this a body is text, which leaves together with its head. */
const ONE_WRITE = 16_384

/** node:http: the head as it will be written. */
type Headed = ServerResponse & { _header?: unknown; readonly _headerSent?: unknown }

/**
 * Ends an answer whose head was written with `writeHead`. A short body is put behind the head, so that both are one
 * text and leave in one plain write: `end(text)` makes a list of it and of an empty text, for `writev`, which costs
 * a twentieth of the whole request. `_header` is no documented name, but the oldest one of node:http; where it is not
 * what it always was, `end` does it.
 */
export function endWithBody(given: ServerResponse, body: Buffer): void {
  const response: Headed = given
  if (body.length > ONE_WRITE) {
    if ('stream' in response) endInPieces(response, body)
    else response.end(body)
    return
  }
  const text = body.toString('latin1')
  const { _header: head } = response
  const isPlain = typeof head === 'string' && response._headerSent === false
  if (!isPlain || response.chunkedEncoding !== false || !head.endsWith('\r\n\r\n')) {
    response.end(text, 'latin1')
    return
  }
  response._header = head + text
  response.end()
}

/** The connection ends with this answer. */
export function endWith(request: IncomingMessage, response: ServerResponse): void {
  if (request.httpVersionMajor === 2) return
  response.shouldKeepAlive = false
  hangUpLater(request.socket)
}

export function writeTrailers(
  request: IncomingMessage,
  response: ServerResponse,
  pairs: [string, string][],
): void {
  if (request.httpVersionMajor !== 2) response.addTrailers(pairs)
  else (response as { addTrailers(all: object): void }).addTrailers(grouped(pairs.flat()))
}

/** Cuts an answer off so that nobody takes it for whole. */
export function cut(request: IncomingMessage, response: ServerResponse): void {
  if (request.httpVersionMajor === 2) {
    ;(response as Response2).stream?.close(constants.NGHTTP2_INTERNAL_ERROR)
    return
  }
  const { socket } = response
  // To HTTP/1.0 the connection's end is the body's end: only a reset says that this one is not.
  if (request.httpVersion === '1.0' && socket instanceof Socket && !('encrypted' in socket)) {
    socket.resetAndDestroy()
  } else {
    response.destroy()
  }
}

/** HTTP/2 takes headers as an object. Fields that may come once only are taken from where they came first. */
function grouped(flat: readonly string[]): Record<string, string | string[]> {
  const headers: Record<string, string | string[]> = {}
  for (let index = 0; index < flat.length; index += 2) {
    const name = (flat[index] as string).toLowerCase()
    const value = flat[index + 1] as string
    const before = headers[name]
    if (before === undefined) headers[name] = value
    else if (!SINGLE.has(name)) {
      headers[name] = Array.isArray(before) ? [...before, value] : [before, value]
    }
  }
  return headers
}

/** Those that node:http2 refuses to send twice and answers have. */
const SINGLE = new Set([
  'access-control-allow-credentials',
  'access-control-max-age',
  'age',
  'content-encoding',
  'content-language',
  'content-length',
  'content-location',
  'content-md5',
  'content-range',
  'content-type',
  'date',
  'dnt',
  'etag',
  'expires',
  'last-modified',
  'location',
  'retry-after',
  'tk',
  'upgrade-insecure-requests',
  'x-content-type-options',
])

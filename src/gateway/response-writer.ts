/**
 * Writes responses over HTTP/1.1 and HTTP/2. The callers pass only what node:http and node:http2 accept: `response-headers.ts`
 * and `framing.ts` check it before, because a head that Node refuses leaves its response half set.
 */
import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http'
import { constants, type ServerHttp2Stream } from 'node:http2'
import { Socket } from 'node:net'
import { appendToHead, writeRaw } from '../core/http/node-internals.ts'
import { resetConnection } from '../core/http/reset-connection.ts'
import { createDict } from '../core/null-prototype.ts'
import { yieldTurn } from '../core/time.ts'
import { closeLingeringLater } from './lingering-close.ts'

type Http2Response = ServerResponse & { readonly stream: ServerHttp2Stream }

/**
 * @param text the reason phrase, as `encodeReasonPhrase` returns it
 * @param flat names and values in turn
 * @returns false if the response was cut instead, and accepts nothing more
 */
export function writeHead(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  text: string,
  flat: string[],
): boolean {
  try {
    if (request.httpVersionMajor === 2) {
      response.writeHead(status, groupHeaders(flat))
      return true
    }
    // The rest of an unread body would be taken for the next request.
    if (!request.complete) closeAfterResponse(request, response)
    // node:http would send chunks to an HTTP/1.0 client that asks for them (RFC 9112 section 6.1).
    if (request.httpVersion !== '1.1') response.useChunkedEncodingByDefault = false
    if (text === '') response.writeHead(status, flat)
    else response.writeHead(status, text, flat)
    return true
  } catch {
    // Node may have kept a part of this head, so no other head can follow.
    cutResponse(request, response)
    return false
  }
}

/**
 * Sends an informational response. It is only a hint, so it is dropped if it cannot be sent.
 * @param flat names and values in turn
 */
export function writeInformational(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  flat: string[],
): void {
  if (response.headersSent || response.destroyed || response.writableLength > MAX_BUFFERED) return
  try {
    if (request.httpVersionMajor === 2) {
      const headers = Object.assign(groupHeaders(flat), { ':status': status })
      ;(response as Http2Response).stream.additionalHeaders(headers)
      return
    }
    let head = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? 'Information'}\r\n`
    for (let index = 0; index < flat.length; index += 2) {
      head += `${flat[index]}: ${flat[index + 1]}\r\n`
    }
    writeRaw(response, `${head}\r\n`)
  } catch {
    // The stream has ended in the meantime.
  }
}

/** Bytes that may wait for a slow client before informational responses are dropped. */
const MAX_BUFFERED = 65_536

/** Sends 100 Continue to a client that waits for it before it sends its body. */
export function writeContinue(response: ServerResponse): void {
  try {
    response.writeContinue()
  } catch {
    // node:http2 throws for a stream that has ended in the meantime.
  }
}

/** Sends the head before the first bytes of the body are there. */
export function flushHead(request: IncomingMessage, response: ServerResponse): void {
  if (request.httpVersionMajor === 2) return
  // `flushHeaders` would write UTF-8, but each character of a header is one byte.
  response.write('', 'latin1')
  // At once, not at the end of the turn: the next bytes may come much later.
  response.socket?.uncork()
}

/** Bodies up to this size are written as text, together with the head. */
const MAX_SINGLE_WRITE = 16_384

/**
 * Ends a response whose head was written with `writeHead`. A short body is appended to the head, so that both leave in one
 * plain write: `end(text)` would make a list of the head, the text and an empty text for `writev`, which costs 5 % of the
 * whole request.
 *
 * What follows the head must be text, not bytes: while the response waits behind others of its connection, node:http would
 * put the head before informational responses that wait as well.
 */
export function endWithBody(response: ServerResponse, body: Buffer): void {
  if (body.length > MAX_SINGLE_WRITE) {
    if ('stream' in response) endInPieces(response, body)
    else {
      response.write('', 'latin1')
      response.end(body)
    }
    return
  }
  const text = body.toString('latin1')
  if (appendToHead(response, text)) response.end()
  else response.end(text, 'latin1')
}

/** node:http2 reports a write only when all of it has left. In pieces, a slow reader does not look like one that stopped. */
const PIECE_SIZE = 32_768

function endInPieces(response: ServerResponse, body: Buffer): void {
  let at = 0
  const next = (): void => {
    const piece = body.subarray(at, at + PIECE_SIZE)
    at += PIECE_SIZE
    if (at >= body.length) response.end(piece)
    else if (response.write(piece)) next()
    else response.once('drain', next)
  }
  next()
}

/** Whether the client can get no response any more. node:http2 tells it only of the stream. */
export function isClientGone(request: IncomingMessage, response: ServerResponse): boolean {
  if (request.httpVersionMajor !== 2) return response.destroyed
  const { stream } = response as Http2Response
  return stream.destroyed || stream.closed
}

/** Calls `call` when the response has ended, or the client has gone away. */
export function onResponseClosed(
  request: IncomingMessage,
  response: ServerResponse,
  call: () => void,
): void {
  // For a HEAD without a response yet, node:http2 emits 'close' on the stream only.
  if (request.httpVersionMajor === 2) (response as Http2Response).stream.once('close', call)
  else response.on('close', call)
}

/** Ends the connection with this response. */
export function closeAfterResponse(request: IncomingMessage, response: ServerResponse): void {
  if (request.httpVersionMajor === 2) return
  response.shouldKeepAlive = false
  closeLingeringLater(request.socket)
}

/** @param flat names and values in turn, as `filterTrailers` returns them */
export function writeTrailers(
  request: IncomingMessage,
  response: ServerResponse,
  flat: string[],
): void {
  if (request.httpVersionMajor === 2) {
    ;(response as { addTrailers(all: object): void }).addTrailers(groupHeaders(flat))
    return
  }
  const pairs: [string, string][] = []
  for (let index = 0; index < flat.length; index += 2) {
    pairs.push([flat[index] as string, flat[index + 1] as string])
  }
  response.addTrailers(pairs)
}

/** Breaks a response off, so that the client sees that it is incomplete. */
export function cutResponse(request: IncomingMessage, response: ServerResponse): void {
  if (request.httpVersionMajor === 2) {
    ;(response as Http2Response).stream?.close(constants.NGHTTP2_INTERNAL_ERROR)
    return
  }
  const { socket } = response
  if (!socket) {
    // It waits behind another response of its connection, and gets the socket after that one. If it were destroyed before, newer
    // Node versions would never come to the ones after it.
    response.once('socket', () => process.nextTick(cutResponse, request, response))
    return
  }
  // In HTTP/1.0 the end of the connection is the end of the body. Only a reset says that the body is incomplete.
  if (request.httpVersion === '1.0' && socket instanceof Socket && !('encrypted' in socket)) {
    // Not in the same turn as a write: with bytes waiting, the reset would become an ordinary end.
    void yieldTurn().then(() => resetConnection(socket))
  } else {
    response.destroy()
  }
}

/** Headers as an object, as HTTP/2 needs them. Of a field that may occur only once, the first value counts. */
function groupHeaders(flat: readonly string[]): Record<string, string | string[]> {
  const headers = createDict<string | string[]>()
  for (let index = 0; index < flat.length; index += 2) {
    const name = (flat[index] as string).toLowerCase()
    const value = flat[index + 1] as string
    const before = headers[name]
    if (before === undefined) headers[name] = value
    else if (LIST_HEADERS.has(name)) headers[name] = `${before}, ${value}`
    else if (!SINGLE_HEADERS.has(name)) {
      headers[name] = Array.isArray(before) ? [...before, value] : [before, value]
    }
  }
  return headers
}

/** List fields that node:http2 refuses to send more than once. */
const LIST_HEADERS = new Set(['content-encoding', 'content-language', 'if-match', 'if-none-match'])

/** Fields that node:http2 refuses to send twice. Request fields are among them, because instances send them as well. */
const SINGLE_HEADERS = new Set([
  'access-control-allow-credentials',
  'access-control-max-age',
  'access-control-request-method',
  'age',
  'authorization',
  'content-length',
  'content-location',
  'content-md5',
  'content-range',
  'content-type',
  'date',
  'dnt',
  'etag',
  'expires',
  'from',
  'host',
  'if-modified-since',
  'if-range',
  'if-unmodified-since',
  'last-modified',
  'location',
  'max-forwards',
  'proxy-authorization',
  'range',
  'referer',
  'retry-after',
  'tk',
  'upgrade-insecure-requests',
  'user-agent',
  'x-content-type-options',
])

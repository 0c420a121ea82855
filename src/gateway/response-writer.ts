/**
 * The differences between an answer over HTTP/1.1 and one over HTTP/2. What node:http and node:http2 would refuse does
 * not come here: `answer-headers.ts` and `framing.ts` see to that, because a head that was refused leaves its answer half set.
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
 * @param text the reason phrase as `phraseOf` gives it
 * @param flat names and values in turn
 * @returns false when the answer was cut off instead, and takes nothing more
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
    // A body that was not read to its end would be taken for the next request.
    if (!request.complete) closeAfterResponse(request, response)
    // node:http would send chunks to a client of HTTP/1.0 that asks for them (RFC 9112 section 6.1).
    if (request.httpVersion !== '1.1') response.useChunkedEncodingByDefault = false
    if (text === '') response.writeHead(status, flat)
    else response.writeHead(status, text, flat)
    return true
  } catch {
    // Nothing is known of what node:http has kept of this head: no other one can follow it.
    cutResponse(request, response)
    return false
  }
}

/**
 * An informational answer. Dropped where it cannot be sent: it is a hint, no more.
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
    // The stream has ended meanwhile.
  }
}

/** Bytes that may wait for a slow client before informational answers are dropped. */
const MAX_BUFFERED = 65_536

/** Lets a client go on that asked before it sent its body. */
export function writeContinue(response: ServerResponse): void {
  try {
    response.writeContinue()
  } catch {
    // node:http2 throws for a stream that has ended meanwhile.
  }
}

/** Sends the head before there is anything of the body. */
export function flushHead(request: IncomingMessage, response: ServerResponse): void {
  if (request.httpVersionMajor === 2) return
  // `flushHeaders` would write it as UTF-8, where a header's character is a byte.
  response.write('', 'latin1')
  // At once, and not at the end of the turn: nothing else may come for long.
  response.socket?.uncork()
}

/** Up to this a body is text, which leaves together with its head. */
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

/** Whether nobody hears an answer any more. node:http2 says so of its streams alone. */
export function isClientGone(request: IncomingMessage, response: ServerResponse): boolean {
  if (request.httpVersionMajor !== 2) return response.destroyed
  const { stream } = response as Http2Response
  return stream.destroyed || stream.closed
}

/** Calls when the answer is over, or nobody hears it any more. */
export function onResponseClosed(
  request: IncomingMessage,
  response: ServerResponse,
  call: () => void,
): void {
  // node:http2 says so of its streams alone, where the request was a HEAD that has no answer yet.
  if (request.httpVersionMajor === 2) (response as Http2Response).stream.once('close', call)
  else response.on('close', call)
}

/** The connection ends with this answer. */
export function closeAfterResponse(request: IncomingMessage, response: ServerResponse): void {
  if (request.httpVersionMajor === 2) return
  response.shouldKeepAlive = false
  closeLingeringLater(request.socket)
}

/** @param flat names and values in turn, as `trailersOf` gives them */
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

/** Cuts an answer off so that nobody takes it for whole. */
export function cutResponse(request: IncomingMessage, response: ServerResponse): void {
  if (request.httpVersionMajor === 2) {
    ;(response as Http2Response).stream?.close(constants.NGHTTP2_INTERNAL_ERROR)
    return
  }
  const { socket } = response
  if (!socket) {
    // It waits behind an answer of the same connection, and begins when that one has left. Newer Nodes would forget it there.
    response.once('socket', () => process.nextTick(cutResponse, request, response))
    return
  }
  // To HTTP/1.0 the connection's end is the body's end: only a reset says that this one is not.
  if (request.httpVersion === '1.0' && socket instanceof Socket && !('encrypted' in socket)) {
    // Not in the turn of a write: what waits would make a plain end of it.
    void yieldTurn().then(() => resetConnection(socket))
  } else {
    response.destroy()
  }
}

/** HTTP/2 takes headers as an object. Fields that may come once only are taken from where they came first. */
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

/** Lists that node:http2 refuses to send in several lines. */
const LIST_HEADERS = new Set(['content-encoding', 'content-language', 'if-match', 'if-none-match'])

/** Those that node:http2 refuses to send twice, also those that only requests have: instances send them all the same. */
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

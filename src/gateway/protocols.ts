/**
 * The protocol of an HTTP/1.1 request, and the protocols to which it asks to switch. A server ignores an `Upgrade` that it
 * does not serve (RFC 9110 section 7.8). node:http cannot do so: for each `Upgrade` it releases the connection, with the body
 * unread. So the gateway puts such a request back without its `Upgrade`, and node:http reads it again.
 */
import { type IncomingMessage, METHODS } from 'node:http'
import type { Socket } from 'node:net'
import { currentParserBytes } from '../core/http/node-internals.ts'
import { isToken } from '../dispatch/validate-request.ts'

/** Whether a text is a `protocol`: a token, or a token, a slash and a token (RFC 9110 section 7.8). */
export function isProtocol(text: string): boolean {
  const parts = text.split('/')
  return parts.length <= 2 && parts.every(isToken)
}

/** HTTP itself and TLS end at the gateway. */
const OWN_PROTOCOLS = /^(?:h2c?|https?|tls|ssl)\b/i

/** The protocols that a request asks for and that can be tunnelled, as a list; undefined for an ordinary request. */
export function requestedProtocols(request: IncomingMessage): string | undefined {
  const { headers, httpVersion } = request
  // A server ignores `Upgrade` in HTTP/1.0 (RFC 9110 section 7.8). A tunnel has no use for a body.
  if (httpVersion !== '1.1' || hasBody(request)) return undefined
  const served = (headers.upgrade ?? '')
    .split(',')
    .map((protocol) => protocol.trim())
    .filter((protocol) => isProtocol(protocol) && !OWN_PROTOCOLS.test(protocol))
  return served.length > 0 ? served.join(', ') : undefined
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) !== 0
}

/**
 * The bytes of a request, without its `Upgrade`.
 * @param head the bytes that followed its headers
 */
export function serializeWithoutUpgrade(request: IncomingMessage, head: Buffer): Buffer {
  const { method, url, httpVersion, rawHeaders } = request
  // No blank after the colon: the headers fitted into `headerSize`, and must fit again.
  let text = `${method} ${url} HTTP/${httpVersion}\r\n`
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] as string
    let value = rawHeaders[index + 1] as string
    const lower = name.toLowerCase()
    if (lower === 'upgrade') continue
    if (lower === 'connection') {
      value = value
        .split(',')
        .filter((token) => token.trim().toLowerCase() !== 'upgrade')
        .join(',')
    }
    text += `${name}:${value}\r\n`
  }
  return Buffer.concat([Buffer.from(`${text}\r\n`, 'latin1'), head])
}

const INSPECTED = Symbol('first request was inspected')

type InspectedSocket = Socket & { [INSPECTED]?: true }

/** The request lines of protocols other than HTTP that Node's parser accepts. */
const FOREIGN_REQUEST_LINE = /^(?:\r?\n)*\S+ \S+ (?:RTSP|ICE)\//

/**
 * Whether it is a request of RTSP or ICE, which Node's parser takes for HTTP. The parser does not tell, but the method and
 * the bytes do. The bytes are read where such a request is possible: in the first request of a connection, and in one of
 * version 1.0, which both protocols have.
 */
export function isForeignProtocol(request: IncomingMessage): boolean {
  const { method, httpVersion } = request
  if (!HTTP_METHODS.has(method as string)) return true
  const socket: InspectedSocket = request.socket
  if (socket[INSPECTED] && httpVersion === '1.1') return false
  socket[INSPECTED] = true
  const bytes = currentParserBytes(request)
  return (
    bytes !== undefined && FOREIGN_REQUEST_LINE.test(bytes.toString('latin1', 0, MAX_REQUEST_LINE))
  )
}

/** Bytes of a request line that are read. */
const MAX_REQUEST_LINE = 16_384

const HTTP_METHODS = new Set(METHODS)

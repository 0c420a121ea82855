/**
 * Which protocol a request of HTTP/1.1 speaks, and which one it asks to switch to. An `Upgrade` that is not served is
 * ignored (RFC 9110 section 7.8). node:http cannot be told so: it lets go of the connection for each one, with the
 * body unread. So such a request is put back without its `Upgrade`, and is read once more.
 */
import { type IncomingMessage, METHODS } from 'node:http'
import type { Socket } from 'node:net'
import { currentParserBytes } from '../core/http/node-internals.ts'

/** One protocol, or several (RFC 9110 section 7.8). */
export const PROTOCOL_PATTERN = /^[\w!#$%&'*+.^`|~-]+(?:\/[\w!#$%&'*+.^`|~-]+)?$/

/** Those that are HTTP itself, or TLS, end at the gateway. */
const OWN_PROTOCOLS = /^(?:h2c?|https?|tls|ssl)\b/i

/** What is asked for and may be tunnelled, as a list; undefined for a request that is to be answered as any other. */
export function requestedProtocols(request: IncomingMessage): string | undefined {
  const { headers, httpVersion } = request
  // RFC 9110 section 7.8 says so of HTTP/1.0. A tunnel has no use for a body.
  if (httpVersion !== '1.1' || hasBody(request)) return undefined
  const served = (headers.upgrade ?? '')
    .split(',')
    .map((protocol) => protocol.trim())
    .filter((protocol) => PROTOCOL_PATTERN.test(protocol) && !OWN_PROTOCOLS.test(protocol))
  return served.length > 0 ? served.join(', ') : undefined
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) !== 0
}

/**
 * The bytes of a request that asked for an upgrade, as if it had not.
 * @param head what came behind its headers
 */
export function serializeWithoutUpgrade(request: IncomingMessage, head: Buffer): Buffer {
  const { method, url, httpVersion, rawHeaders } = request
  // No blank behind a colon: what fitted into `headerSize` is to fit again.
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

const INSPECTED = Symbol('the first request of this connection was looked at')

type InspectedSocket = Socket & { [INSPECTED]?: true }

/** What `parser` knows besides HTTP's. */
const FOREIGN_REQUEST_LINE = /^(?:\r?\n)*\S+ \S+ (?:RTSP|ICE)\//

/**
 * Whether it is a request of RTSP or ICE, which node:http's parser takes for one of HTTP, version and all. The parser
 * does not say so; its methods do, and the bytes. Those are looked at where such a request may be: at the beginning of
 * a connection, and with 1.0, which is the version of both.
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

/** Bytes of a request line that are looked at. */
const MAX_REQUEST_LINE = 16_384

const HTTP_METHODS = new Set(METHODS)

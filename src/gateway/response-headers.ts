/**
 * The headers and trailers of responses for clients: hop-by-hop fields are removed (RFC 9110 section 7.6.1), and so is
 * everything for which node:http or node:http2 would throw, or that would frame the body differently. Pure.
 */

import { describe } from '../core/describe.ts'
import { ManyhostError } from '../core/errors.ts'
import type { RawHeaders } from '../dispatch/exchange.ts'
import type { Framing } from './framing.ts'
import { equalsAscii, type HeaderKind, headerKindOf, headerNameOf } from './header-kinds.ts'
import { namedByConnection } from './request-headers.ts'

interface ResponseHeaderOptions {
  readonly via: string
  readonly id: string
  /** Whether the gateway sets the CORS headers, in place of the instance. */
  readonly gatewayHandlesCors: boolean
  readonly framing: Framing
}

/** The headers for the client: names and values in turn. @throws ManyhostError for a head that HTTP does not allow */
export function responseHeaders(
  raw: RawHeaders,
  { via, id, gatewayHandlesCors, framing }: ResponseHeaderOptions,
): string[] {
  const headers: string[] = []
  let hasId = false
  let isNamed = false
  let named: Set<string> | undefined
  let length: string | undefined
  let trailer: string | undefined
  for (let index = 0; index + 1 < raw.length; index += 2) {
    const name = headerNameOf(raw[index] as Buffer)
    const kind: HeaderKind = headerKindOf(name)
    if (DROPPED_KINDS.has(kind)) {
      if (kind === 'bad') throw badHeadError(`it has a header named ${describe(name)}`)
      if (kind !== 'connection' || isNamed || isPlainConnection(raw[index + 1] as Buffer)) continue
      isNamed = true
      named = namedByConnection(raw.map((bytes) => bytes.toString('latin1')))
      if (named) dropHeaders(headers, named)
      continue
    }
    const value = parseFieldValue(raw[index + 1] as Buffer)
    if (value === undefined)
      throw badHeadError(`its header ${name} has bytes that no header may have`)
    if (kind === 'length') {
      length = mergeContentLength(value, length)
      continue
    }
    if (kind === 'trailer') {
      trailer = trailer === undefined ? value : `${trailer}, ${value}`
      continue
    }
    if (kind === 'id') hasId = true
    if (named !== undefined || gatewayHandlesCors) {
      const lower = name.toLowerCase()
      if (named?.has(lower) || (gatewayHandlesCors && lower.startsWith('access-control-'))) continue
    }
    headers.push(name, value)
  }
  headers.push('via', via)
  if (!hasId) headers.push('x-request-id', id)
  if (trailer !== undefined && (framing === 'two' || (framing === 'chunks' && !length))) {
    headers.push('trailer', trailer)
  }
  // Content-Length comes last: node:http mangles or refuses a Content-Disposition after it that is not ASCII.
  if (framing === 'empty') headers.push('content-length', '0')
  else if (length !== undefined && framing !== 'none') headers.push('content-length', length)
  return headers
}

/** The headers of an informational response or of a 101. None of them frames a body. */
export function interimHeaders(raw: RawHeaders): string[] {
  const headers: string[] = []
  let named: Set<string> | undefined
  for (let index = 0; index + 1 < raw.length; index += 2) {
    const name = headerNameOf(raw[index] as Buffer)
    const kind = headerKindOf(name)
    if (kind === 'connection') {
      named ??= namedByConnection(raw.map((bytes) => bytes.toString('latin1')))
    }
    if (DROPPED_KINDS.has(kind) || kind === 'length' || kind === 'trailer') continue
    const value = parseFieldValue(raw[index + 1] as Buffer)
    if (value !== undefined) headers.push(name, value)
  }
  if (named) dropHeaders(headers, named)
  return headers
}

/** The trailers for the client. Trailers that HTTP forbids are left out: the response is complete without them. */
export function filterTrailers(raw: RawHeaders): string[] {
  const trailers: string[] = []
  for (let index = 0; index + 1 < raw.length; index += 2) {
    const name = headerNameOf(raw[index] as Buffer)
    const kind = headerKindOf(name)
    if (DROPPED_KINDS.has(kind) || kind === 'host' || FORBIDDEN_TRAILERS.has(name.toLowerCase()))
      continue
    const value = parseFieldValue(raw[index + 1] as Buffer)
    if (value !== undefined) trailers.push(name, value)
  }
  return trailers
}

/**
 * Fields that RFC 9110 section 6.5.1 forbids in trailers: framing, routing, authentication, and whatever is needed before
 * the body. A client that merges trailers into headers would get two values.
 */
const FORBIDDEN_TRAILERS = new Set([
  'age',
  'authorization',
  'cache-control',
  'content-encoding',
  'content-length',
  'content-range',
  'content-type',
  'date',
  'expires',
  'location',
  'retry-after',
  'set-cookie',
  'trailer',
  'vary',
  'www-authenticate',
])

/** The value of a header; undefined if it has bytes that HTTP does not allow, for which Node would throw. */
function parseFieldValue(bytes: Buffer): string | undefined {
  const value = bytes.toString('latin1')
  if (INVALID_VALUE_CHARS.test(value)) return undefined
  // HTTP/2 forbids blanks at either end (RFC 9113 section 8.2.1), and undici keeps those at the end.
  const { length } = value
  return isBlank(value.charCodeAt(length - 1)) || isBlank(value.charCodeAt(0))
    ? value.trim()
    : value
}

const INVALID_VALUE_CHARS = /[^\t\x20-\x7e\x80-\xff]/

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09
}

/** One length for repeated equal lengths, such as `5, 5` (RFC 9110 section 8.6). */
function mergeContentLength(value: string, before: string | undefined): string {
  let length = before
  for (const given of value.includes(',') ? value.split(/[ \t]*,[ \t]*/) : [value]) {
    if (!/^\d{1,16}$/.test(given)) throw badHeadError('its Content-Length is not a number')
    if (length !== undefined && Number(length) !== Number(given))
      throw badHeadError('it has two lengths')
    length ??= given
  }
  return length as string
}

function badHeadError(reason: string): ManyhostError {
  return new ManyhostError(
    'MANYHOST_BAD_RESPONSE',
    `the response of the instance cannot be passed on: ${reason}`,
  )
}

/** Whether a `Connection` lists no header: it is `close` or `keep-alive`. */
function isPlainConnection(value: Buffer): boolean {
  return equalsAscii(value, 'close') || equalsAscii(value, 'keep-alive')
}

const DROPPED_KINDS: ReadonlySet<HeaderKind> = new Set([
  'bad',
  'hop',
  'connection',
  'ours',
  'pseudo',
])

function dropHeaders(headers: string[], named: ReadonlySet<string>): void {
  for (let index = headers.length - 2; index >= 0; index -= 2) {
    if (named.has((headers[index] as string).toLowerCase())) headers.splice(index, 2)
  }
}

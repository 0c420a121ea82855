/**
 * The request headers for an instance: hop-by-hop fields are removed (RFC 9110 section 7.6.1), and the fields that describe
 * the client and the proxies are added. Pure.
 */
import { headerKindOf } from './header-kinds.ts'

export interface RequestHeaderOptions {
  /** Address of the client. */
  readonly client: string
  readonly proto: 'http' | 'https'
  /** `Host` as the client sent it. */
  readonly host: string
  /** `1.1`, `2.0`. */
  readonly version: string
  /** Whether the client is a proxy whose forwarding headers are kept. */
  readonly isTrustedProxy: boolean
  /** Whether the instance gets `Forwarded` and `X-Forwarded-*`. */
  readonly addForwarded: boolean
  /** Name of this gateway in `Via`. */
  readonly viaName: string
  /** The prefix that was removed from the path. */
  readonly strippedPrefix: string
  /** Whether `Content-Length` is kept; false for a request without a body. */
  readonly keepLength: boolean
}

/** The headers that go to the instance: names and values in turn. */
export function requestHeaders(raw: readonly string[], options: RequestHeaderOptions): string[] {
  const headers: string[] = []
  let named: Set<string> | undefined
  let isNamed = false
  let forwardedFor = ''
  let forwarded = ''
  let proto: string = options.proto
  let { host, strippedPrefix: prefix } = options
  let via = ''
  let cookie = ''
  for (let index = 0; index < raw.length; index += 2) {
    const name = raw[index] as string
    const kind = headerKindOf(name)
    const value = raw[index + 1] as string
    if (kind === 'pass') {
      if (!isNamed) {
        isNamed = true
        named = namedByConnection(raw)
      }
      if (named?.has(name.toLowerCase())) continue
      headers.push(name, value)
      continue
    }
    switch (kind) {
      case 'length':
        if (options.keepLength) headers.push(name, value)
        break
      case 'id':
        if (isRequestId(value)) headers.push(name, value)
        break
      case 'via':
        via = appendToList(via, value)
        break
      case 'cookie':
        // HTTP/2 may send one cookie header in several fields (RFC 9113 section 8.2.3).
        cookie = cookie === '' ? value : `${cookie}; ${value}`
        break
      case 'forwarding':
        if (!options.isTrustedProxy || !options.addForwarded) break
        switch (name.toLowerCase()) {
          case 'x-forwarded-for':
            forwardedFor = appendToList(forwardedFor, value)
            break
          case 'forwarded':
            forwarded = appendToList(forwarded, value)
            break
          case 'x-forwarded-proto':
            proto = value
            break
          case 'x-forwarded-host':
            host = value
            break
          case 'x-forwarded-prefix':
            prefix = value.replace(/\/$/, '') + options.strippedPrefix
            break
          default:
            headers.push(name, value)
        }
        break
    }
  }
  if (cookie !== '') headers.push('cookie', cookie)
  if (options.addForwarded) {
    if (prefix !== '') headers.push('x-forwarded-prefix', prefix)
    headers.push(
      'x-forwarded-for',
      appendToList(forwardedFor, options.client),
      'x-forwarded-proto',
      proto,
      'x-forwarded-host',
      host,
      'forwarded',
      appendToList(
        forwarded,
        `for=${forwardedNode(options.client)};proto=${options.proto};host="${options.host}"`,
      ),
    )
  }
  headers.push('via', appendToList(via, `${options.version} ${options.viaName}`))
  return headers
}

/** Whether a text can be the id of a request. It must be short and visible, as it goes into logs and responses. */
export function isRequestId(value: string): boolean {
  return value.length <= 200 && /^[\x21-\x7e]+$/.test(value)
}

/** The header names that `Connection` lists, in lower case: they concern this connection only. */
export function namedByConnection(raw: readonly string[]): Set<string> | undefined {
  let named: Set<string> | undefined
  for (let index = 0; index < raw.length; index += 2) {
    if (headerKindOf(raw[index] as string) !== 'connection') continue
    const value = raw[index + 1] as string
    if (value === 'keep-alive' || value === 'close') continue
    for (const token of value.split(',')) {
      const name = token.trim().toLowerCase()
      // End-to-end fields stay, although a client lists them.
      if (name === 'keep-alive' || name === 'close' || NEVER_DROPPED.has(name)) continue
      named ??= new Set()
      named.add(name)
    }
  }
  return named
}

const NEVER_DROPPED = new Set([
  'authorization',
  'content-encoding',
  'content-length',
  'content-range',
  'content-type',
  'cookie',
  'host',
  'idempotency-key',
  'set-cookie',
])

function appendToList(list: string, value: string): string {
  return list === '' ? value : `${list}, ${value}`
}

/** An IPv6 address is quoted and in brackets (RFC 7239 section 6). */
function forwardedNode(address: string): string {
  return address.includes(':') ? `"[${address}]"` : address
}

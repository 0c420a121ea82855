/**
 * Headers of requests on their way through: those that concern one connection only are taken out (RFC 9110 section 7.6.1), those
 * that say who was on the way are added. Pure.
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
  /** Whether the client is a proxy whose word on the way so far is taken. */
  readonly isTrustedProxy: boolean
  /** Whether the instance is to be told who asked. */
  readonly addForwarded: boolean
  /** The name by which this gateway calls itself in `Via`. */
  readonly viaName: string
  /** What was taken off the path's beginning. */
  readonly strippedPrefix: string
  /** Whether the instance is to be told the length: not when the body is sent on as chunks. */
  readonly keepLength: boolean
}

/** The headers that go to the instance: names and values in turn. */
export function requestHeaders(raw: readonly string[], way: RequestHeaderOptions): string[] {
  const headers: string[] = []
  let named: Set<string> | undefined
  let isNamed = false
  let forwardedFor = ''
  let forwarded = ''
  let proto: string = way.proto
  let { host, strippedPrefix: prefix } = way
  let passed = ''
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
        if (way.keepLength) headers.push(name, value)
        break
      case 'id':
        if (isRequestId(value)) headers.push(name, value)
        break
      case 'via':
        passed = appendToList(passed, value)
        break
      case 'cookie':
        // HTTP/2 may send its crumbs apart (RFC 9113 section 8.2.3).
        cookie = cookie === '' ? value : `${cookie}; ${value}`
        break
      case 'forwarding':
        if (!way.isTrustedProxy || !way.addForwarded) break
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
            prefix = value.replace(/\/$/, '') + way.strippedPrefix
            break
          default:
            headers.push(name, value)
        }
        break
    }
  }
  if (cookie !== '') headers.push('cookie', cookie)
  if (way.addForwarded) {
    if (prefix !== '') headers.push('x-forwarded-prefix', prefix)
    headers.push(
      'x-forwarded-for',
      appendToList(forwardedFor, way.client),
      'x-forwarded-proto',
      proto,
      'x-forwarded-host',
      host,
      'forwarded',
      appendToList(
        forwarded,
        `for=${forwardedNode(way.client)};proto=${way.proto};host="${way.host}"`,
      ),
    )
  }
  headers.push('via', appendToList(passed, `${way.version} ${way.viaName}`))
  return headers
}

/** What may be a request's id: short and visible, for it goes into logs and answers. */
export function isRequestId(value: string): boolean {
  return value.length <= 200 && /^[\x21-\x7e]+$/.test(value)
}

/** Header names that `Connection` names, in lower case: they concern this connection only. */
export function namedByConnection(raw: readonly string[]): Set<string> | undefined {
  let named: Set<string> | undefined
  for (let index = 0; index < raw.length; index += 2) {
    if (headerKindOf(raw[index] as string) !== 'connection') continue
    const value = raw[index + 1] as string
    if (value === 'keep-alive' || value === 'close') continue
    for (const token of value.split(',')) {
      const name = token.trim().toLowerCase()
      // What makes a request what it is cannot be called a matter of the connection.
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

/** RFC 7239 section 6: a v6 address is quoted and in brackets. */
function forwardedNode(address: string): string {
  return address.includes(':') ? `"[${address}]"` : address
}

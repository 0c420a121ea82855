/**
 * Headers on their way through: those that concern one connection only are taken out (RFC 9110 section 7.6.1), those
 * that say who was on the way are added. Pure.
 */
import type { RawHeaders } from '../dispatch/exchange.ts'

/** Fields of one connection; `te` and `trailer` are handled where trailers are. */
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
])

/** Fields that tell of the way so far: believed of proxies that are trusted, else written anew. */
const FORWARDING = new Set([
  'forwarded',
  'x-forwarded-for',
  'x-forwarded-proto',
  'x-forwarded-host',
  'x-real-ip',
])

/** Fields by which manyhost steers, which are not for clients to send. */
const OURS = new Set(['x-manyhost-attempt', 'x-manyhost-return'])

type Kind = 'host' | 'hop' | 'forwarding' | 'ours' | 'connection' | 'pass' | 'pseudo' | 'length'

/** Names as they are written, to what is to be done with them. Bounded: clients choose the names. */
const kinds = new Map<string, Kind>()
const MOST_KINDS = 2_000

function kindOf(name: string): Kind {
  const known = kinds.get(name)
  if (known) return known
  const lower = name.toLowerCase()
  let kind: Kind = 'pass'
  if (lower === 'connection') kind = 'connection'
  else if (lower.startsWith(':')) kind = 'pseudo'
  else if (lower === 'host') kind = 'host'
  else if (lower === 'content-length') kind = 'length'
  else if (HOP_BY_HOP.has(lower)) kind = 'hop'
  else if (FORWARDING.has(lower)) kind = 'forwarding'
  else if (OURS.has(lower)) kind = 'ours'
  if (kinds.size < MOST_KINDS) kinds.set(name, kind)
  return kind
}

export interface Via {
  /** Address of the client. */
  readonly client: string
  readonly proto: 'http' | 'https'
  /** `Host` as the client sent it. */
  readonly host: string
  /** `1.1`, `2.0`. */
  readonly version: string
  /** Whether the client is a proxy whose word on the way so far is taken. */
  readonly trusted: boolean
  /** The name by which this gateway calls itself in `Via`. */
  readonly name: string
  /** Whether the instance is to be told the length: not when the body is sent on as chunks. */
  readonly keepLength: boolean
}

/** The headers that go to the instance: names and values in turn. */
export function requestHeaders(raw: readonly string[], via: Via): string[] {
  const named = namedByConnection(raw)
  const headers: string[] = []
  let forwardedFor = ''
  let forwarded = ''
  let proto: string = via.proto
  let { host } = via
  let passed = ''
  for (let index = 0; index < raw.length; index += 2) {
    const name = raw[index] as string
    const kind = kindOf(name)
    const value = raw[index + 1] as string
    if (kind === 'length') {
      if (via.keepLength) headers.push(name, value)
      continue
    }
    if (kind === 'forwarding' && via.trusted) {
      const lower = name.toLowerCase()
      if (lower === 'x-forwarded-for') forwardedFor = join(forwardedFor, value)
      else if (lower === 'forwarded') forwarded = join(forwarded, value)
      else if (lower === 'x-forwarded-proto') proto = value
      else if (lower === 'x-forwarded-host') host = value
      else headers.push(name, value)
      continue
    }
    if (kind !== 'pass') continue
    const lower = name.length === 3 || named ? name.toLowerCase() : ''
    if (lower === 'via') {
      passed = join(passed, value)
      continue
    }
    if (named?.has(lower)) continue
    headers.push(name, value)
  }
  headers.push(
    'x-forwarded-for',
    join(forwardedFor, via.client),
    'x-forwarded-proto',
    proto,
    'x-forwarded-host',
    host,
    'forwarded',
    join(forwarded, `for=${node(via.client)};proto=${via.proto};host="${via.host}"`),
    'via',
    join(passed, `${via.version} ${via.name}`),
  )
  return headers
}

/** Header names that `Connection` names, in lower case: they concern this connection only. */
function namedByConnection(raw: readonly string[]): Set<string> | undefined {
  let named: Set<string> | undefined
  for (let index = 0; index < raw.length; index += 2) {
    if (kindOf(raw[index] as string) !== 'connection') continue
    for (const token of (raw[index + 1] as string).split(',')) {
      const name = token.trim().toLowerCase()
      if (name === 'keep-alive' || name === 'close' || name === 'upgrade') continue
      named ??= new Set()
      // What makes a request what it is cannot be called a matter of the connection.
      if (!ESSENTIAL.has(name)) named.add(name)
    }
  }
  return named
}

const ESSENTIAL = new Set(['host', 'content-length', 'content-type', 'authorization', 'cookie'])

function join(list: string, value: string): string {
  return list === '' ? value : `${list}, ${value}`
}

/** RFC 7239 section 6: a v6 address is quoted and in brackets. */
function node(address: string): string {
  return address.includes(':') ? `"[${address}]"` : address
}

/** The headers that go to the client: names and values in turn, and the instance's trailers announced as they were. */
export function responseHeaders(raw: RawHeaders, via: string): string[] {
  const texts: string[] = []
  for (const bytes of raw) texts.push(bytes.toString('latin1'))
  const named = namedByConnection(texts)
  const headers: string[] = []
  for (let index = 0; index < texts.length; index += 2) {
    const name = texts[index] as string
    const kind = kindOf(name)
    if (kind === 'hop' || kind === 'connection' || kind === 'ours' || kind === 'pseudo') {
      continue
    }
    if (named?.has(name.toLowerCase())) continue
    headers.push(name, texts[index + 1] as string)
  }
  headers.push('via', via)
  return headers
}

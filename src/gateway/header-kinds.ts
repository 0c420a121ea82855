/** Classifies header fields by name: what the gateway does with each. */
import { isToken } from '../dispatch/validate-request.ts'

export type HeaderKind =
  | 'bad'
  | 'connection'
  | 'cookie'
  | 'forwarding'
  | 'hop'
  | 'host'
  | 'id'
  | 'length'
  | 'ours'
  | 'pass'
  | 'pseudo'
  | 'trailer'
  | 'via'

const HEADER_KINDS: ReadonlyMap<string, HeaderKind> = new Map(
  Object.entries<HeaderKind>({
    connection: 'connection',
    'content-length': 'length',
    cookie: 'cookie',
    host: 'host',
    via: 'via',
    'x-request-id': 'id',
    // Announces trailers. undici sends no trailers of requests, so it is removed there; responses keep it.
    trailer: 'trailer',
    // Hop-by-hop fields, which concern one connection.
    'http2-settings': 'hop',
    'keep-alive': 'hop',
    'proxy-authenticate': 'hop',
    'proxy-authorization': 'hop',
    'proxy-connection': 'hop',
    te: 'hop',
    'transfer-encoding': 'hop',
    upgrade: 'hop',
    // Fields that proxies add: kept from trusted proxies, otherwise replaced.
    forwarded: 'forwarding',
    'x-forwarded-for': 'forwarding',
    'x-forwarded-host': 'forwarding',
    'x-forwarded-port': 'forwarding',
    'x-forwarded-prefix': 'forwarding',
    'x-forwarded-proto': 'forwarding',
    'x-forwarded-server': 'forwarding',
    'x-forwarded-ssl': 'forwarding',
    'x-real-ip': 'forwarding',
    // Fields of manyhost itself, which clients may not send.
    'x-manyhost-attempt': 'ours',
    'x-manyhost-return': 'ours',
  }),
)

/** By name as it was written. Bounded, because clients choose the names. */
const knownKinds = new Map<string, HeaderKind>()
const MAX_KNOWN_NAMES = 1_000
const MAX_KNOWN_LENGTH = 40

export function headerKindOf(name: string): HeaderKind {
  const found = knownKinds.get(name)
  if (found !== undefined) return found
  const kind = classifyHeader(name)
  if (knownKinds.size < MAX_KNOWN_NAMES && name.length <= MAX_KNOWN_LENGTH)
    knownKinds.set(name, kind)
  return kind
}

function classifyHeader(name: string): HeaderKind {
  if (name.startsWith(':')) return 'pseudo'
  // node:http and node:http2 throw for such a name; node:http2 in part too late to be caught.
  if (!isToken(name)) return 'bad'
  return HEADER_KINDS.get(name.toLowerCase()) ?? 'pass'
}

/** Names that nearly every response has, as servers write them. By length, so that a name is compared with few others. */
const COMMON_NAMES: readonly (readonly string[])[] = groupByLength([
  'Accept-Ranges',
  'Access-Control-Allow-Origin',
  'Cache-Control',
  'Connection',
  'Content-Encoding',
  'Content-Length',
  'Content-Type',
  'Date',
  'ETag',
  'Keep-Alive',
  'Last-Modified',
  'Server',
  'Transfer-Encoding',
  'Vary',
  'X-Powered-By',
  'X-Request-Id',
])

function groupByLength(names: readonly string[]): string[][] {
  const table: string[][] = []
  for (const name of names.flatMap((one) => [one, one.toLowerCase()])) {
    const same = table[name.length] ?? []
    same.push(name)
    table[name.length] = same
  }
  return table
}

/** The name of a header as it was written. Comparing bytes costs a tenth of decoding them. */
export function headerNameOf(bytes: Buffer): string {
  const candidates = COMMON_NAMES[bytes.length]
  if (candidates) for (const name of candidates) if (equalsAscii(bytes, name)) return name
  return bytes.toString('latin1')
}

/** Whether the bytes are those of an ASCII text. */
export function equalsAscii(bytes: Buffer, text: string): boolean {
  const { length } = text
  if (bytes.length !== length) return false
  for (let index = 0; index < length; index++) {
    if (bytes[index] !== text.charCodeAt(index)) return false
  }
  return true
}

/** The number of remembered names. @internal */
export function countKnownNames(): number {
  return knownKinds.size
}

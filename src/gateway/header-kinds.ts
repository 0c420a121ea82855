/** Header names, to what is to be done with them. */

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
    // Announces what is not sent on: undici has no trailers of requests. Answers keep theirs.
    trailer: 'trailer',
    // Fields of one connection.
    'http2-settings': 'hop',
    'keep-alive': 'hop',
    'proxy-authenticate': 'hop',
    'proxy-authorization': 'hop',
    'proxy-connection': 'hop',
    te: 'hop',
    'transfer-encoding': 'hop',
    upgrade: 'hop',
    // Fields that tell of the way so far: believed of proxies that are trusted, else written anew.
    forwarded: 'forwarding',
    'x-forwarded-for': 'forwarding',
    'x-forwarded-host': 'forwarding',
    'x-forwarded-port': 'forwarding',
    'x-forwarded-prefix': 'forwarding',
    'x-forwarded-proto': 'forwarding',
    'x-forwarded-server': 'forwarding',
    'x-forwarded-ssl': 'forwarding',
    'x-real-ip': 'forwarding',
    // Fields by which manyhost steers, which are not for clients to send.
    'x-manyhost-attempt': 'ours',
    'x-manyhost-return': 'ours',
  }),
)

/** Names as they were written. Bounded, because clients choose the names. */
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
  // node:http and node:http2 throw for such a name, the latter partly too late to be caught.
  if (!TOKEN_PATTERN.test(name)) return 'bad'
  return HEADER_KINDS.get(name.toLowerCase()) ?? 'pass'
}

/** RFC 9110 section 5.6.2. */
const TOKEN_PATTERN = /^[\w!#$%&'*+.^`|~-]+$/

/** Names that nearly every answer has, as servers write them. By length: a name has few to be compared with. */
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

/** The name of a header, as it was written; comparing bytes costs a tenth of making a text of them. */
export function headerNameOf(bytes: Buffer): string {
  const usual = COMMON_NAMES[bytes.length]
  if (usual) for (const name of usual) if (equalsAscii(bytes, name)) return name
  return bytes.toString('latin1')
}

/** Whether these are the bytes of that text of ASCII. */
export function equalsAscii(bytes: Buffer, text: string): boolean {
  const { length } = text
  if (bytes.length !== length) return false
  for (let index = 0; index < length; index++) {
    if (bytes[index] !== text.charCodeAt(index)) return false
  }
  return true
}

/** How many names are remembered. @internal */
export function countKnownNames(): number {
  return knownKinds.size
}

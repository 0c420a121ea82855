/** Header names, to what is to be done with them. */

export type Kind =
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

const KINDS: ReadonlyMap<string, Kind> = new Map(
  Object.entries<Kind>({
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
const known = new Map<string, Kind>()
const MOST = 1_000
const LONGEST = 40

export function kindOf(name: string): Kind {
  const found = known.get(name)
  if (found !== undefined) return found
  const kind = judge(name)
  if (known.size < MOST && name.length <= LONGEST) known.set(name, kind)
  return kind
}

function judge(name: string): Kind {
  if (name.startsWith(':')) return 'pseudo'
  // node:http and node:http2 throw for such a name, the latter partly too late to be caught.
  if (!TOKEN.test(name)) return 'bad'
  return KINDS.get(name.toLowerCase()) ?? 'pass'
}

/** RFC 9110 section 5.6.2. */
const TOKEN = /^[\w!#$%&'*+.^`|~-]+$/

/** Names that nearly every answer has, as servers write them. By length: a name has few to be compared with. */
const USUAL: readonly (readonly string[])[] = byLength([
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

function byLength(names: readonly string[]): string[][] {
  const table: string[][] = []
  for (const name of names.flatMap((one) => [one, one.toLowerCase()])) {
    const same = table[name.length] ?? []
    same.push(name)
    table[name.length] = same
  }
  return table
}

/** The name of a header, as it was written; comparing bytes costs a tenth of making a text of them. */
export function nameOf(bytes: Buffer): string {
  const usual = USUAL[bytes.length]
  if (usual) for (const name of usual) if (matches(bytes, name)) return name
  return bytes.toString('latin1')
}

/** Whether these are the bytes of that text of ASCII. */
export function matches(bytes: Buffer, text: string): boolean {
  const { length } = text
  if (bytes.length !== length) return false
  for (let index = 0; index < length; index++) {
    if (bytes[index] !== text.charCodeAt(index)) return false
  }
  return true
}

/** How many names are remembered. @internal */
export function knownNames(): number {
  return known.size
}

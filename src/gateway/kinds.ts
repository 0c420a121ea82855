/** Header names, to what is to be done with them. */

export type Kind =
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

const KINDS: Readonly<Record<string, Kind>> = {
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
}

/** Names as they were written. Bounded, because clients choose the names. */
const known = new Map<string, Kind>()
const MOST = 1_000
const LONGEST = 40

export function kindOf(name: string): Kind {
  const found = known.get(name)
  if (found !== undefined) return found
  const lower = name.toLowerCase()
  const kind = name.startsWith(':') ? 'pseudo' : Object.hasOwn(KINDS, lower) ? KINDS[lower] : 'pass'
  if (known.size < MOST && name.length <= LONGEST) known.set(name, kind as Kind)
  return kind as Kind
}

/** How many names are remembered. @internal */
export function knownNames(): number {
  return known.size
}

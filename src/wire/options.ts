/** Options of a link, of dialling and of serving: names, defaults and ranges in one place. */
import type { ConnectionOptions, TlsOptions } from 'node:tls'
import {
  milliseconds,
  oneOf,
  type ParsedOptions,
  parseOptions,
  type Rule,
  rule,
  text,
  whole,
} from '../core/options.ts'
import { listenerRule } from '../core/user-functions.ts'

/** A key, or what finds the key of a peer that says who it is. */
export type WireKey =
  | string
  | Uint8Array
  | ((ident: string | undefined) => string | Uint8Array | undefined)

export interface WireLinkOptions {
  /** Buffered bytes above which the peer is not read, and nothing more is taken for sending. @default 20 MiB */
  wireBufHigh?: number
  /** Buffered bytes below which it goes on. @default 6 MiB */
  wireBufLow?: number
  /** Most bytes of one packet of code; blobs have no such limit. @default 1 MiB */
  packetSize?: number
  /** Bytes of a response that are kept for a conversation which does not take them, before it holds up others. @default 1 MiB */
  window?: number
  /** Posted conversations that wait for their acknowledgement; more of them wait for room. @default 10000 */
  maxPending?: number
  /** Hosted conversations under way; the peer is not read beyond it. @default 1000 */
  maxHosted?: number
  /** Milliseconds for connecting, TLS and the greeting, each. @default 10000 */
  handshakeTimeout?: number
  /** Milliseconds without any byte and any conversation after which the link ends; 0: never. @default 0 */
  idleTimeout?: number
  /** Milliseconds between signs of life, to peers that know them; 0: none. @default 15000 */
  beat?: number
  /** Milliseconds of silence after which a peer that beats is dead. @default 45000 */
  deadAfter?: number
  /** Milliseconds in which a peer that has something to read must read some of it; 0: no limit. @default 60000 */
  stallTimeout?: number
  /** Least bytes a second, over 10 s, in the middle of a packet or blob; 0: none. @default 100 */
  minRate?: number
  /** Milliseconds for the last bytes, once a link has ended. @default 5000 */
  closeTimeout?: number
  /** Whether manyhost peers may agree on errors, beats, cancelling and framed blobs. @default true */
  extensions?: boolean
  /** Shared secret: both ends prove that they have it, and it is never sent. At least 16 bytes. */
  key?: WireKey
  /** Who we say we are, where there is a key for each; the proof covers it. */
  ident?: string
  /** With a key: whether peers without one are refused. @default 'required' */
  auth?: 'required' | 'optional'
  /** Whether a hosted function ends before the next begins, though nothing more can come for it. @default false */
  ordered?: boolean
  /**
   * What code of an original peer that cannot be landed ends, such as the call of a name that is not exposed: its
   * conversation, with a report to `onError`, or the link. @default 'report'
   */
  badCode?: 'report' | 'disconnect'
  /** Told of errors that nobody waits for: of notifications that failed, of callbacks that threw. */
  onError?: (error: Error) => void
}

const flagRule = (initial: boolean): Rule<boolean> =>
  rule<boolean>(
    'true or false',
    initial,
    (value) => (typeof value === 'boolean' ? value : undefined),
    {
      is: 'flag',
    },
  )

const keyRule = rule<WireKey>(
  '16 bytes or more, or a function that finds them',
  undefined,
  (value) => {
    if (typeof value === 'function') return value as WireKey
    const isLong =
      (typeof value === 'string' || value instanceof Uint8Array) && Buffer.byteLength(value) >= 16
    return isLong ? value : undefined
  },
)

export const LINK_RULES = {
  wireBufHigh: whole(1_024, 20 * 1_048_576, { unit: 'bytes' }),
  wireBufLow: whole(0, 6 * 1_048_576, { unit: 'bytes' }),
  packetSize: whole(1_024, 1_048_576, { unit: 'bytes' }),
  window: whole(1, 1_048_576, { unit: 'bytes' }),
  maxPending: whole(1, 10_000),
  maxHosted: whole(1, 1_000),
  handshakeTimeout: milliseconds(10_000),
  idleTimeout: milliseconds(0, 'never'),
  beat: milliseconds(15_000, 'none'),
  deadAfter: milliseconds(45_000),
  stallTimeout: milliseconds(60_000, 'no limit'),
  minRate: whole(0, 100),
  closeTimeout: milliseconds(5_000),
  extensions: flagRule(true),
  key: keyRule,
  ident: text(
    'a string of 1 to 128 characters',
    (value) => value.length > 0 && value.length <= 128,
  ),
  auth: oneOf(['required', 'optional'], 'required'),
  ordered: flagRule(false),
  badCode: oneOf(['report', 'disconnect'], 'report'),
  onError: listenerRule<[error: Error]>('a function', 'onError of a wire link'),
}

const portRule = rule<number>('a whole number from 0 to 65535', 3_232, (value) =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 65_535
    ? (value as number)
    : undefined,
)

function objectRule<T>(what: string): Rule<T> {
  return rule<T>(what, undefined, (value) =>
    typeof value === 'object' && value !== null ? (value as T) : undefined,
  )
}

const ADDRESS_RULES = {
  host: text('a name or an address', (value) => value.length > 0),
  port: portRule,
  path: text('the path of a unix socket', (value) => value.length > 0),
}

export const DIAL_RULES = {
  ...ADDRESS_RULES,
  ...LINK_RULES,
  tls: rule<true | ConnectionOptions>('true, or options of tls.connect()', undefined, (value) =>
    value === true || (typeof value === 'object' && value !== null)
      ? (value as true | ConnectionOptions)
      : undefined,
  ),
  signal: objectRule<AbortSignal>('an AbortSignal'),
}

export const SERVE_RULES = {
  ...ADDRESS_RULES,
  ...LINK_RULES,
  tls: objectRule<TlsOptions>('options of tls.createServer()'),
  maxLinks: whole(1, 10_000),
}

export type WireSettings = ParsedOptions<typeof LINK_RULES>

/** Where: a host and port (127.0.0.1:3232 unless given), or the path of a unix socket. */
export interface WireAddress {
  host?: string
  port?: number
  path?: string
}

export interface DialOptions extends WireAddress, WireLinkOptions {
  /** Encrypts: `true`, or options of Node's `tls.connect()`. */
  tls?: true | ConnectionOptions
  /** Gives the dialling up. */
  signal?: AbortSignal
}

export interface WireServeOptions extends WireAddress, WireLinkOptions {
  /** Encrypts: options of Node's `tls.createServer()`, with `key` and `cert`. */
  tls?: TlsOptions
  /** Links at a time; more are closed at once. @default 10000 */
  maxLinks?: number
}

/** `host:port`, `unix:/path`, or options that have them. */
export function parseWhere<T extends WireAddress>(given: string | T): T {
  if (typeof given !== 'string') return given
  if (given.startsWith('unix:')) return { path: given.slice(5) } as T
  const match = /^(?:\[([^\]]+)\]|([^:]*))(?::(\d+))?$/.exec(given)
  const host = match?.[1] ?? match?.[2]
  return { ...(host && { host }), ...(match?.[3] && { port: Number(match[3]) }) } as T
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseLinkOptions(given: WireLinkOptions): WireSettings {
  return parseOptions('wire', given, LINK_RULES)
}

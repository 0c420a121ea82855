/** Options of a link, of `dial` and of `serve`: names, defaults and ranges. */
import type { ConnectionOptions, TlsOptions } from 'node:tls'
import { describe } from '../core/describe.ts'
import { ManyhostError } from '../core/errors.ts'
import { isPort, parseListenAddress } from '../core/listen-address.ts'
import {
  flag,
  milliseconds,
  oneOf,
  type ParsedOptions,
  parseOptions,
  type Rule,
  rule,
  text,
  whole,
} from '../core/options.ts'
import type { RulesOf } from '../core/rules-of.ts'
import { listenerRule } from '../core/user-functions.ts'

/** A key, or a function that finds the key of the peer with this ident. */
export type WireKey =
  | string
  | Uint8Array
  | ((ident: string | undefined) => string | Uint8Array | undefined)

export interface WireLinkOptions {
  /** Buffered bytes above which the peer is not read, and sending waits. @default 20 MiB */
  wireBufHigh?: number
  /** Buffered bytes below which reading resumes. @default 6 MiB */
  wireBufLow?: number
  /** Maximum bytes of one packet of code; blobs have no such limit. @default 1 MiB */
  packetSize?: number
  /** Maximum bytes of a response that wait for a poster that does not receive them; beyond it, other responses wait. @default 1 MiB */
  window?: number
  /** Maximum number of posted conversations without acknowledgement; further ones wait. @default 10000 */
  maxPending?: number
  /** Maximum number of hosted conversations; the peer is not read while there are as many. @default 1000 */
  maxHosted?: number
  /** Milliseconds for each of: connecting with TLS, the greeting. @default 10000 */
  handshakeTimeout?: number
  /** Milliseconds without bytes and conversations after which the link ends; 0: never. @default 0 */
  idleTimeout?: number
  /** Milliseconds between beats, the signs of life that are sent to manyhost peers; 0: none. @default 15000 */
  beat?: number
  /** Milliseconds of silence after which a peer that sends beats counts as dead. @default 45000 */
  deadAfter?: number
  /** Milliseconds in which a peer must read some of the bytes that wait for it; 0: no limit. @default 60000 */
  stallTimeout?: number
  /** Minimum bytes per second, over 10 s, from a peer in the middle of a packet or blob; 0: none. @default 100 */
  minRate?: number
  /** Milliseconds in which the last bytes of a link that has ended must be sent. @default 5000 */
  closeTimeout?: number
  /** Whether errors, beats, cancelling and framed blobs are agreed on with manyhost peers. @default true */
  extensions?: boolean
  /** A shared secret of at least 16 bytes. Both ends prove that they have it; it is never sent. */
  key?: WireKey
  /** Our name, for a peer that has a key for each name. The proof covers it. */
  ident?: string
  /** With a key: whether peers without a proof are refused. @default 'required' */
  auth?: 'required' | 'optional'
  /** Whether a hosted function always ends before the next one begins. @default false */
  ordered?: boolean
  /**
   * What ends if code of an original peer cannot be landed, such as a call of a name that is not exposed: its
   * conversation, with a report to `onError`; or the link. @default 'report'
   */
  badCode?: 'report' | 'disconnect'
  /** Called with errors that no caller waits for: of notifications that failed, and of callbacks that threw. */
  onError?: (error: Error) => void
}

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
  extensions: flag(true),
  key: keyRule,
  ident: text(
    'a string of 1 to 128 characters',
    (value) => value.length > 0 && value.length <= 128,
  ),
  auth: oneOf(['required', 'optional'], 'required'),
  ordered: flag(false),
  badCode: oneOf(['report', 'disconnect'], 'report'),
  onError: listenerRule<[error: Error]>('a function', 'onError of a wire link'),
} satisfies RulesOf<WireLinkOptions>

/** For `signal`, of `dial` and of `withReconnect`. */
export const signalRule = rule<AbortSignal>('an AbortSignal', undefined, (value) =>
  value instanceof AbortSignal ? value : undefined,
)

/** HBI's port. */
const DEFAULT_PORT = 3_232

function objectRule<T>(what: string): Rule<T> {
  return rule<T>(what, undefined, (value) =>
    typeof value === 'object' && value !== null ? (value as T) : undefined,
  )
}

const ADDRESS_RULES = {
  host: text('a name or an address', (value) => value.length > 0),
  port: rule<number>('a whole number from 0 to 65535', DEFAULT_PORT, (value) =>
    isPort(value) ? value : undefined,
  ),
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
  signal: signalRule,
} satisfies RulesOf<DialOptions>

export const SERVE_RULES = {
  ...ADDRESS_RULES,
  ...LINK_RULES,
  tls: objectRule<TlsOptions>('options of tls.createServer()'),
  maxLinks: whole(1, 10_000),
} satisfies RulesOf<WireServeOptions>

export type WireSettings = ParsedOptions<typeof LINK_RULES>

/** A host and a port, 127.0.0.1 and 3232 by default; or the path of a unix socket. */
export interface WireAddress {
  host?: string
  port?: number
  path?: string
}

export interface DialOptions extends WireAddress, WireLinkOptions {
  /** Encrypts: `true`, or options of Node's `tls.connect()`. */
  tls?: true | ConnectionOptions
  /** Aborts the attempt to connect. */
  signal?: AbortSignal
}

export interface WireServeOptions extends WireAddress, WireLinkOptions {
  /** Encrypts: options of Node's `tls.createServer()`, with `key` and `cert`. */
  tls?: TlsOptions
  /** Maximum number of links; further connections are closed at once. @default 10000 */
  maxLinks?: number
}

/**
 * The options with the address of a text: `host`, `host:port`, `:port`, `[::1]:port` or `unix:/path`. Options are returned
 * unchanged.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function parseWhere<T extends WireAddress>(given: string | T): T {
  if (typeof given !== 'string') return given
  const address = parseListenAddress(given) ?? parseListenAddress(`${given}:${DEFAULT_PORT}`)
  if (address) return address as T
  throw new ManyhostError(
    'MANYHOST_INVALID_OPTION',
    `wire: an address must be 'host', 'host:port', '[::1]:port' or 'unix:/path', got ${describe(given)}`,
  )
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseLinkOptions(given: WireLinkOptions): WireSettings {
  return parseOptions('wire', given, LINK_RULES)
}

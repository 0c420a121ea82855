/** Options of `new FeedClient`, with defaults and ranges. */
import type { ConnectionOptions } from 'node:tls'
import {
  callback,
  milliseconds,
  oneOf,
  type ParsedOptions,
  type Rule,
  rule,
  text,
  whole,
} from '../core/options.ts'
import type { RulesOf } from '../core/rules-of.ts'
import { isIdent } from './frame.ts'
import type { DropPolicy } from './outbox.ts'

/** How TLS is made: a part of the options of `tls.connect`. */
export type FeedTls = Pick<
  ConnectionOptions,
  'ca' | 'cert' | 'key' | 'servername' | 'rejectUnauthorized' | 'minVersion'
>

export interface FeedClientOptions {
  /** Name or address of the broker, IPv6 too. @default '127.0.0.1' */
  readonly host?: string
  /** @default 20000 */
  readonly port?: number
  /** A unix socket in place of host and port. */
  readonly path?: string
  /** The client's name: 1 to 255 bytes of UTF-8. */
  readonly ident: string
  /** The secret of this ident. It is never sent: the client only proves that it knows the secret. */
  readonly secret: string
  /** `true`, or certificates. Without TLS, anybody on the network path can read and change everything. @default false */
  readonly tls?: boolean | FeedTls
  /** Bytes of messages that wait for a connection, or for a slow one. @default 16777216 */
  readonly bufferLimit?: number
  /** Which message is dropped when `bufferLimit` is reached; with 'error' `publish` throws. @default 'oldest' */
  readonly drop?: DropPolicy
  /** Bytes of messages that have arrived and were not read; above it the connection is not read. @default 16777216 */
  readonly readLimit?: number
  /** Milliseconds for the connection and the broker's first frame. @default 10000 */
  readonly connectTimeout?: number
  /** Milliseconds of silence after which the client assumes that it was accepted: the broker sends no confirmation. @default 250 */
  readonly settle?: number
  /** Milliseconds before the first attempt after a loss; each further one waits up to twice as long. @default 250 */
  readonly retryMin?: number
  /** Maximum milliseconds between two attempts. @default 30000 */
  readonly retryMax?: number
  /** Milliseconds in which `close()` sends what was published. @default 5000 */
  readonly closeTimeout?: number
  /** Source of the jitter, in [0, 1): for tests that must be repeatable. @default Math.random */
  readonly random?: () => number
}

/** Every option of the client. A test compares docs/feed.md with this table. */
export const CLIENT_RULES = {
  host: { ...text('a host name or an address', (value) => value !== ''), initial: '127.0.0.1' },
  port: rule<number>('a port from 1 to 65535', 20_000, (value) =>
    Number.isInteger(value) && (value as number) >= 1 && (value as number) <= 65_535
      ? (value as number)
      : undefined,
  ),
  path: text('the path of a unix socket', (value) => value !== '') as Rule<string | undefined>,
  ident: text('a text of 1 to 255 bytes', isIdent),
  secret: text('a text'),
  tls: rule<boolean | FeedTls>('true, false or { ca, cert, key, servername }', false, (value) =>
    typeof value === 'boolean' || (typeof value === 'object' && value !== null)
      ? (value as boolean | FeedTls)
      : undefined,
  ),
  bufferLimit: whole(0, 16_777_216, { unit: 'bytes' }),
  drop: oneOf(['oldest', 'newest', 'error'], 'oldest'),
  readLimit: whole(1, 16_777_216, { unit: 'bytes' }),
  connectTimeout: milliseconds(10_000),
  settle: milliseconds(250, 'at once'),
  retryMin: milliseconds(250),
  retryMax: milliseconds(30_000),
  closeTimeout: milliseconds(5_000, 'at once'),
  random: callback<(() => number) | undefined>('a function'),
} as const satisfies RulesOf<FeedClientOptions>

export type FeedClientSettings = ParsedOptions<typeof CLIENT_RULES>

/** Options of `new FeedClient`, with defaults and ranges. */
import type { ConnectionOptions } from 'node:tls'
import { milliseconds, oneOf, type Rule, rule, text, whole } from '../core/options.ts'
import type { DropPolicy } from './outbox.ts'

/** How TLS is made: what of `tls.connect` matters here. */
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
  /** Who we are: 1 to 255 bytes of UTF-8. */
  readonly ident: string
  /** It is never sent: the broker sees that it is known. */
  readonly secret: string
  /** `true`, or certificates. Without it, whoever is on the way can read and change everything. @default false */
  readonly tls?: boolean | FeedTls
  /** Bytes of messages that wait for a connection, or for a slow one. @default 16777216 */
  readonly bufferLimit?: number
  /** What goes when `bufferLimit` is reached; with 'error' `publish` throws. @default 'oldest' */
  readonly drop?: DropPolicy
  /** Bytes that have come and were not read; then the connection is not read any more. @default 16777216 */
  readonly readLimit?: number
  /** Milliseconds for a connection and the broker's first word. @default 10000 */
  readonly connectTimeout?: number
  /** Milliseconds of silence after which the broker has accepted us: it never says so. @default 250 */
  readonly settle?: number
  /** Milliseconds before the first attempt after a loss; each further one waits up to twice as long. @default 250 */
  readonly retryMin?: number
  /** Milliseconds between two attempts at most. @default 30000 */
  readonly retryMax?: number
  /** Milliseconds that `close()` gives what was published to be sent. @default 5000 */
  readonly closeTimeout?: number
  /** Source of the jitter, in [0, 1): for tests that are to be repeatable. @default Math.random */
  readonly random?: () => number
}

function nameRule(what: string): Rule<string> {
  return text(what, (value) => value !== '' && Buffer.byteLength(value) <= 255)
}

/** Every option of the client. docs/feed.md is held against this by a test. */
export const CLIENT_RULES = {
  host: { ...text('a host name or an address', (value) => value !== ''), initial: '127.0.0.1' },
  port: rule<number>('a port from 1 to 65535', 20_000, (value) =>
    Number.isInteger(value) && (value as number) >= 1 && (value as number) <= 65_535
      ? (value as number)
      : undefined,
  ),
  path: text('the path of a unix socket', (value) => value !== ''),
  ident: nameRule('a text of 1 to 255 bytes'),
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
  random: rule<() => number>('a function', undefined, (value) =>
    typeof value === 'function' ? (value as () => number) : undefined,
  ),
} as const

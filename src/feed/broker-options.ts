/** Options of `new Feed`, with defaults and ranges. */
import type { Registry } from 'prom-client'
import { describe } from '../core/describe.ts'
import { ManyhostError } from '../core/errors.ts'
import {
  flag,
  milliseconds,
  type ParsedOptions,
  parseOptions,
  rule,
  text,
  whole,
} from '../core/options.ts'
import type { RulesOf } from '../core/rules-of.ts'
import { type FeedEndpoint, type ParsedFeedEndpoint, parseEndpoint } from './endpoints.ts'
import { isIdent } from './frame.ts'
import { chain, fromMemory, type IdentityTable } from './identities/memory.ts'
import type { IdentitySource } from './rights.ts'

export type Identities = IdentityTable | IdentitySource

export interface FeedOptions {
  /** Addresses to listen on. Without any, the feed works in this process and over HTTP only. @default none */
  readonly endpoints?: FeedEndpoint | readonly FeedEndpoint[]
  /** Identities that may connect: one source, or several. The first source that knows an ident answers. */
  readonly identities?: Identities | readonly Identities[]
  /** The broker's name, and the ident of messages that this process publishes. @default 'manyhost' */
  readonly name?: string
  /** Whether `*` in rights matches any characters. @default false */
  readonly patterns?: boolean
  /** Maximum number of open connections; further ones are refused. @default 10000 */
  readonly connections?: number
  /** Milliseconds in which a connection must authenticate. @default 10000 */
  readonly authTimeout?: number
  /** Maximum bytes that wait for one slow reader; messages beyond it are dropped. @default 16777216 */
  readonly bufferLimit?: number
  /** A reader ends if more than half of `bufferLimit` waits for it for this many milliseconds. @default 60000 */
  readonly deadline?: number
  /** Bytes of the challenge. All hpfeeds clients take 4, most take up to 20. @default 4 */
  readonly nonceSize?: number
  /** Messages of each channel that are kept for HTTP readers that resume. @default 0 */
  readonly history?: number
  /** Bytes of each channel that are kept. @default 1048576 */
  readonly historyBytes?: number
  /** Milliseconds in which `close()` sends the frames that wait for connections. @default 5000 */
  readonly closeTimeout?: number
  /** The registry of the metrics; `close()` removes them from it. @default a new registry */
  readonly registry?: Registry
}

function textOrObjectRule<T>(range: string): ReturnType<typeof rule<T>> {
  return rule<T>(range, undefined, (value) =>
    typeof value === 'string' || (typeof value === 'object' && value !== null)
      ? (value as T)
      : undefined,
  )
}

/** Every option of a feed. Rules with a form are keys of `feed` in a file. A test compares docs/feed.md with this table. */
export const FEED_RULES = {
  endpoints: textOrObjectRule<NonNullable<FeedOptions['endpoints']>>(
    'an endpoint, or an array of them',
  ),
  identities: textOrObjectRule<NonNullable<FeedOptions['identities']>>(
    'an object by ident, a source, or an array of them',
  ),
  name: {
    ...text('a text of 1 to 255 bytes', isIdent),
    initial: 'manyhost',
  },
  patterns: flag(false),
  connections: whole(1, 10_000),
  authTimeout: milliseconds(10_000),
  bufferLimit: whole(2_097_152, 16_777_216, { unit: 'bytes' }),
  deadline: milliseconds(60_000),
  nonceSize: whole(4, 4, { max: 20 }),
  history: whole(0, 0),
  historyBytes: whole(1, 1_048_576, { unit: 'bytes' }),
  closeTimeout: milliseconds(5_000, 'cut at once'),
  registry: rule<Registry | undefined>('a registry of prom-client', undefined, (value) =>
    typeof (value as Registry | undefined)?.registerMetric === 'function'
      ? (value as Registry)
      : undefined,
  ),
} as const satisfies RulesOf<FeedOptions>

/** The options as the broker uses them: parsed endpoints, and one source that asks all given ones. */
export interface FeedSettings
  extends Omit<ParsedOptions<typeof FEED_RULES>, 'endpoints' | 'identities'> {
  readonly endpoints: readonly ParsedFeedEndpoint[]
  readonly source: IdentitySource
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseFeedOptions(given: FeedOptions): FeedSettings {
  const { endpoints = [], identities = {}, ...parsed } = parseOptions('Feed', given, FEED_RULES)
  const list = Array.isArray(endpoints) ? endpoints : [endpoints as FeedEndpoint]
  const sources = Array.isArray(identities) ? identities : [identities]
  return {
    ...parsed,
    endpoints: list.map((endpoint) => parseEndpoint(endpoint as FeedEndpoint)),
    source: chain(...sources.map(toIdentitySource)),
  }
}

function toIdentitySource(given: unknown): IdentitySource {
  if (typeof given !== 'object' || given === null) {
    const text = `Feed: identities must be an object with idents as keys, or a source, got ${describe(given)}`
    throw new ManyhostError('MANYHOST_INVALID_OPTION', text)
  }
  const isSource = typeof (given as IdentitySource).find === 'function'
  return isSource ? (given as IdentitySource) : fromMemory(given as IdentityTable)
}

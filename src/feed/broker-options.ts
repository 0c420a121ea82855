/** Options of `new Feed`, with defaults and ranges. */
import type { Registry } from 'prom-client'
import { describe } from '../core/describe.ts'
import { ManyhostError } from '../core/errors.ts'
import { flag, milliseconds, parseOptions, rule, text, whole } from '../core/options.ts'
import { type FeedEndpoint, type ParsedFeedEndpoint, parseEndpoint } from './endpoints.ts'
import { chain, fromMemory, type IdentityTable } from './identities/memory.ts'
import type { IdentitySource } from './rights.ts'

export type Identities = IdentityTable | IdentitySource

export interface FeedOptions {
  /** Where it listens, one or several; none: in this process and over HTTP only. @default none */
  readonly endpoints?: FeedEndpoint | readonly FeedEndpoint[]
  /** Who may come, one source or several: the first that knows an ident is right. */
  readonly identities?: Identities | readonly Identities[]
  /** How it calls itself, and the ident of what is published in this process. @default 'manyhost' */
  readonly name?: string
  /** Whether `*` in rights stands for any characters. @default false */
  readonly patterns?: boolean
  /** Connections at a time; more are refused. @default 10000 */
  readonly connections?: number
  /** Milliseconds for a connection to prove who it is. @default 10000 */
  readonly authTimeout?: number
  /** Bytes that may wait for one slow reader; beyond them it misses messages. @default 16777216 */
  readonly bufferLimit?: number
  /** Milliseconds that a reader may be slow, with more than half of `bufferLimit` waiting. @default 60000 */
  readonly deadline?: number
  /** Bytes of the challenge; all hpfeeds clients know 4, most take up to 20. @default 4 */
  readonly nonceSize?: number
  /** Messages of each channel that are kept for who resumes over HTTP. @default 0 */
  readonly history?: number
  /** Bytes of each channel that are kept. @default 1048576 */
  readonly historyBytes?: number
  /** Milliseconds that connections may take to get what waits for them on `close()`. @default 5000 */
  readonly closeTimeout?: number
  /** Where the metrics are registered; `close()` takes them out again. @default a new registry */
  readonly registry?: Registry
}

function textOrObjectRule<T>(range: string): ReturnType<typeof rule<T>> {
  return rule<T>(range, undefined, (value) =>
    typeof value === 'string' || (typeof value === 'object' && value !== null)
      ? (value as T)
      : undefined,
  )
}

/** Every option of a feed; those with a form are keys of `feed` in a file. docs/feed.md is held against this by a test. */
export const FEED_RULES = {
  endpoints: textOrObjectRule<NonNullable<FeedOptions['endpoints']>>(
    'an endpoint, or an array of them',
  ),
  identities: textOrObjectRule<NonNullable<FeedOptions['identities']>>(
    'an object by ident, a source, or an array of them',
  ),
  name: {
    ...text('a text of 1 to 255 bytes', (value) => value !== '' && Buffer.byteLength(value) <= 255),
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
  registry: rule<Registry>('a registry of prom-client', undefined, (value) =>
    typeof (value as Registry | undefined)?.registerMetric === 'function'
      ? (value as Registry)
      : undefined,
  ),
} as const

export interface FeedSettings {
  readonly endpoints: readonly ParsedFeedEndpoint[]
  readonly source: IdentitySource
  readonly name: string
  readonly patterns: boolean
  readonly connections: number
  readonly authTimeout: number
  readonly bufferLimit: number
  readonly deadline: number
  readonly nonceSize: number
  readonly history: number
  readonly historyBytes: number
  readonly closeTimeout: number
  readonly registry: Registry | undefined
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseFeedOptions(given: FeedOptions): FeedSettings {
  const { endpoints = [], identities = {}, ...parsed } = parseOptions('Feed', given, FEED_RULES)
  const list = Array.isArray(endpoints) ? endpoints : [endpoints as FeedEndpoint]
  const sources = Array.isArray(identities) ? identities : [identities]
  return {
    ...parsed,
    endpoints: list.map((one) => parseEndpoint(one as FeedEndpoint)),
    source: chain(...sources.map(toIdentitySource)),
  }
}

function toIdentitySource(given: unknown): IdentitySource {
  if (typeof given !== 'object' || given === null) {
    const text = `Feed: identities are an object by ident, or a source, got ${describe(given)}`
    throw new ManyhostError('MANYHOST_INVALID_OPTION', text)
  }
  const isSource = typeof (given as IdentitySource).find === 'function'
  return isSource ? (given as IdentitySource) : fromMemory(given as IdentityTable)
}

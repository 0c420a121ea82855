/**
 * The session's events on channels of a feed, as JSON: `manyhost.instance`, `manyhost.cluster`, ... docs/feed.md has
 * the schema; a change that breaks readers raises its version.
 */
import { hostname } from 'node:os'
import type { SessionEvents } from './events.ts'
import type { Feed } from './feed/broker.ts'
import { parseOptions, rule, text } from './options.ts'
import type { Session } from './session.ts'
import { now, wallClock } from './time.ts'

/** Version of what is said: the field `v` of every message. */
export const EVENTS_VERSION = 1

/** What every message has, beside the fields of its event. */
export interface FeedEnvelope {
  readonly v: typeof EVENTS_VERSION
  /** Name of the event: the channel without its prefix. */
  readonly event: string
  /** Milliseconds since 1970. */
  readonly at: number
  /** The machine that says it. */
  readonly host: string
}

export interface PublishOptions {
  /** What the channels begin with. @default 'manyhost' */
  readonly prefix?: string
  /** Share of the requests that are told, from 0 to 1; those that were not answered are told always. @default 0.01 */
  readonly sample?: number
  /** Requests that are told each second, at most. @default 100 */
  readonly requestsPerSecond?: number
  /** Source of the sampling, in [0, 1). @default Math.random */
  readonly random?: () => number
}

/** Every option. docs/feed.md is held against this by a test. */
export const PUBLISH_RULES = {
  prefix: {
    ...text('a text of 1 to 200 bytes', (value) => value !== '' && Buffer.byteLength(value) <= 200),
    initial: 'manyhost',
  },
  sample: rule<number>('a number from 0 to 1', 0.01, (value) =>
    typeof value === 'number' && value >= 0 && value <= 1 ? value : undefined,
  ),
  requestsPerSecond: rule<number>('a number from 1 up', 100, (value) =>
    typeof value === 'number' && Number.isFinite(value) && value >= 1 ? value : undefined,
  ),
  random: rule<() => number>('a function', undefined, (value) =>
    typeof value === 'function' ? (value as () => number) : undefined,
  ),
} as const

/** What takes messages: a `Feed` in this process, or a `FeedClient` of one elsewhere. */
export interface Publisher {
  publish(channel: string, payload: string): unknown
}

/** Longest texts of an event, such as the last lines of an instance: a message has its limit. */
const MOST_TEXT = 16_384

/** Says one event. Agents and tasks use it for theirs. */
export type Say = <Data extends { readonly at: number }>(event: string, data: Data) => void

/** What says events on the channels of a publisher; one that fails (closed, full) changes nothing here. */
export function sayer(publisher: Publisher, prefix = 'manyhost'): Say {
  const host = hostname()
  return (event, { at, ...data }) => {
    const envelope: FeedEnvelope = { v: EVENTS_VERSION, event, at, host }
    try {
      publisher.publish(`${prefix}.${event}`, JSON.stringify({ ...envelope, ...data }, shortened))
    } catch {
      // Who hears nothing notices by the feed's own words; the session goes on.
    }
  }
}

function shortened(_: string, value: unknown): unknown {
  if (typeof value !== 'string' || value.length <= MOST_TEXT) return value
  return `...${value.slice(-MOST_TEXT)}`
}

type Told = Exclude<keyof SessionEvents, 'error'>

/**
 * Tells a feed what happens in a session, from now on; the function that is returned ends that.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function publishEvents(
  session: Pick<Session, 'on'>,
  publisher: Publisher,
  options: PublishOptions = {},
): () => void {
  const parsed = parseOptions('publishEvents', options, PUBLISH_RULES)
  const { prefix, sample, requestsPerSecond, random = Math.random } = parsed
  const say = sayer(publisher, prefix)
  const tell = (name: Told): (() => void) => session.on(name, (event) => say(name, event))
  let allowance = requestsPerSecond
  let last = now()
  /** A bucket that a second fills: a busy fleet must not drown its own feed. */
  const mayTell = (): boolean => {
    const time = now()
    allowance = Math.min(requestsPerSecond, allowance + ((time - last) / 1_000) * requestsPerSecond)
    last = time
    if (allowance < 1) return false
    allowance--
    return true
  }
  const offs = [
    tell('instance'),
    tell('cluster'),
    tell('resend'),
    session.on('request', (event) => {
      const isPlain = event.outcome === 'answered'
      if (isPlain && random() >= sample) return
      if (mayTell()) say('request', { ...event, sample: isPlain ? sample : 1 })
    }),
    session.on('error', ({ code, message, service, status, retryable }) => {
      say('error', { code, message, service, status, retryable, at: wallClock() })
    }),
  ]
  return () => {
    for (const off of offs) off()
  }
}

/** A feed that hears nothing of the session any more once it is closed. */
export function publishTo(
  feed: Feed,
  session: Pick<Session, 'on'>,
  options?: PublishOptions,
): void {
  const off = publishEvents(session, feed, options)
  feed.onClose(off)
}

/**
 * The messages of a session's events: one form for channels of a feed and for the event stream of the admin address.
 * docs/feed.md has the schema. A change that breaks readers raises the version.
 */
import { hostname } from 'node:os'
import type { ManyhostError } from '../core/errors.ts'
import type { Emitter, SessionEvents } from '../core/events.ts'
import { rule } from '../core/options.ts'
import { now, wallClock } from '../core/time.ts'
import { guardRandom } from '../core/user-functions.ts'

/** Version of the messages: the field `v` of each of them. */
export const EVENTS_VERSION = 1

/** The fields of every message. The fields of the event follow. */
export interface FeedEnvelope {
  readonly v: typeof EVENTS_VERSION
  /** Name of the event: the channel without its prefix. */
  readonly event: string
  /** Milliseconds since 1970. */
  readonly at: number
  /** Name of the machine of the session. */
  readonly host: string
}

/** Characters of a text in a message, such as the last output of an instance: the size of a message is limited. */
const MAX_EVENT_TEXT = 16_384
const HOST = hostname()

/** One event as a message: a JSON object. */
export function formatSessionEvent(
  event: string,
  { at, ...data }: { readonly at: number },
): string {
  const envelope: FeedEnvelope = { v: EVENTS_VERSION, event, at, host: HOST }
  return JSON.stringify({ ...envelope, ...data }, shortenText)
}

function shortenText(_: string, value: unknown): unknown {
  if (typeof value !== 'string' || value.length <= MAX_EVENT_TEXT) return value
  return `...${value.slice(-MAX_EVENT_TEXT)}`
}

/** An error as a message: without its stack. */
export function formatSessionError(error: ManyhostError): string {
  const { code, message: text, service, status, retryable } = error
  const payload = { code, message: text, service, status, retryable, at: wallClock() }
  return formatSessionEvent('error', payload)
}

export interface SampleOptions {
  /**
   * Share of the answered requests and succeeded tasks that have a message, from 0 to 1. Other requests and tasks always have
   * one. @default 0.01
   */
  readonly sample?: number
  /** Greatest number of messages about requests and tasks per second. @default 100 */
  readonly requestsPerSecond?: number
  /** Source of the sampling, in [0, 1). @default Math.random */
  readonly random?: () => number
}

export const SAMPLE_RULES = {
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

/** Events that always have a message. */
const UNSAMPLED_EVENTS = ['instance', 'cluster', 'resend', 'agent'] as const

/** Calls `notify` with the message of each event from now on. @returns a function that ends this */
export function forwardSessionEvents(
  session: Pick<Emitter<SessionEvents>, 'on'>,
  notify: (event: string, message: string) => void,
  { sample = 0.01, requestsPerSecond = 100, random: given }: SampleOptions = {},
): () => void {
  const random = guardRandom(given, { what: 'the random of the sampled events' })
  let allowance = requestsPerSecond
  let last = now()
  /** A token bucket that fills within a second, so that a busy service does not flood its own feed. */
  const maySend = (): boolean => {
    const time = now()
    allowance = Math.min(requestsPerSecond, allowance + ((time - last) / 1_000) * requestsPerSecond)
    last = time
    if (allowance < 1) return false
    allowance--
    return true
  }
  const offs = [
    ...UNSAMPLED_EVENTS.map((name) =>
      session.on(name, (event) => notify(name, formatSessionEvent(name, event))),
    ),
    session.on('request', (event) => {
      const isPlain = event.outcome === 'answered'
      if (isPlain && random() >= sample) return
      const payload = { ...event, sample: isPlain ? sample : 1 }
      if (maySend()) notify('request', formatSessionEvent('request', payload))
    }),
    session.on('task', (event) => {
      const isPlain = event.outcome === 'succeeded'
      if (isPlain && random() >= sample) return
      const payload = { ...event, sample: isPlain ? sample : 1 }
      if (maySend()) notify('task', formatSessionEvent('task', payload))
    }),
    session.on('error', (error) => notify('error', formatSessionError(error))),
  ]
  return () => {
    for (const off of offs) off()
  }
}

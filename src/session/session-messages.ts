/**
 * What is said of a session's events to those outside: one form, for channels of a feed and for the admin address'
 * event stream. docs/feed.md has its schema; a change that breaks readers raises its version.
 */
import { hostname } from 'node:os'
import type { ManyhostError } from '../core/errors.ts'
import type { Emitter, SessionEvents } from '../core/events.ts'
import { rule } from '../core/options.ts'
import { now, wallClock } from '../core/time.ts'
import { guardRandom } from '../core/user-functions.ts'

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

/** Longest texts of an event, such as the last lines of an instance: a message has its limit. */
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
   * Share of the requests and tasks that are told, from 0 to 1; requests that were not answered and tasks that did not
   * succeed are told always. @default 0.01
   */
  readonly sample?: number
  /** Requests and tasks that are told each second, at most. @default 100 */
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

/** What is told as it is. */
const UNSAMPLED_EVENTS = ['instance', 'cluster', 'resend', 'agent'] as const

/** Tells the messages of a session's events, from now on; the function that is returned ends that. */
export function forwardSessionEvents(
  session: Pick<Emitter<SessionEvents>, 'on'>,
  notify: (event: string, message: string) => void,
  { sample = 0.01, requestsPerSecond = 100, random: given }: SampleOptions = {},
): () => void {
  const random = guardRandom(given, { what: 'the random of the sampled events' })
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
    ...UNSAMPLED_EVENTS.map((name) =>
      session.on(name, (event) => notify(name, formatSessionEvent(name, event))),
    ),
    session.on('request', (event) => {
      const isPlain = event.outcome === 'answered'
      if (isPlain && random() >= sample) return
      const payload = { ...event, sample: isPlain ? sample : 1 }
      if (mayTell()) notify('request', formatSessionEvent('request', payload))
    }),
    session.on('task', (event) => {
      const isPlain = event.outcome === 'succeeded'
      if (isPlain && random() >= sample) return
      const payload = { ...event, sample: isPlain ? sample : 1 }
      if (mayTell()) notify('task', formatSessionEvent('task', payload))
    }),
    session.on('error', (error) => notify('error', formatSessionError(error))),
  ]
  return () => {
    for (const off of offs) off()
  }
}

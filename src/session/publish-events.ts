/** Publishes the session's events on channels of a feed, as JSON: `manyhost.instance`, `manyhost.cluster`, ... */

import { parseOptions, text } from '../core/options.ts'
import type { Feed } from '../feed/broker.ts'
import type { SessionCore } from './session.ts'
import { forwardSessionEvents, SAMPLE_RULES, type SampleOptions } from './session-messages.ts'

export interface PublishOptions extends SampleOptions {
  /** Beginning of the channels' names. @default 'manyhost' */
  readonly prefix?: string
}

/** Every option. A test compares docs/feed.md with this table. */
export const PUBLISH_RULES = {
  prefix: {
    ...text('a text of 1 to 200 bytes', (value) => value !== '' && Buffer.byteLength(value) <= 200),
    initial: 'manyhost',
  },
  ...SAMPLE_RULES,
} as const

/** Takes messages: a `Feed` of this process, or a `FeedClient` of a feed elsewhere. */
export interface Publisher {
  publish(channel: string, payload: string): unknown
}

/**
 * Publishes the events of a session from now on.
 * @returns a function that ends this
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function publishEvents(
  session: Pick<SessionCore, 'on'>,
  publisher: Publisher,
  options: PublishOptions = {},
): () => void {
  const { prefix, ...sampling } = parseOptions('publishEvents', options, PUBLISH_RULES)
  const publish = (event: string, message: string): void => {
    try {
      publisher.publish(`${prefix}.${event}`, message)
    } catch {
      // The feed is closed or full. The session goes on; subscribers see a gap by the feed's own means.
    }
  }
  return forwardSessionEvents(session, publish, sampling as SampleOptions)
}

/** Publishes the events of a session until the feed closes. */
export function publishSession(
  feed: Feed,
  session: Pick<SessionCore, 'on'>,
  options?: PublishOptions,
): void {
  const off = publishEvents(session, feed, options)
  feed.onClose(off)
}

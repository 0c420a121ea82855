/** The session's events on channels of a feed, as JSON: `manyhost.instance`, `manyhost.cluster`, ... */

import { parseOptions, text } from '../core/options.ts'
import type { Feed } from '../feed/broker.ts'
import type { SessionCore } from './session.ts'
import { forwardSessionEvents, SAMPLE_RULES, type SampleOptions } from './session-messages.ts'

export interface PublishOptions extends SampleOptions {
  /** What the channels begin with. @default 'manyhost' */
  readonly prefix?: string
}

/** Every option. docs/feed.md is held against this by a test. */
export const PUBLISH_RULES = {
  prefix: {
    ...text('a text of 1 to 200 bytes', (value) => value !== '' && Buffer.byteLength(value) <= 200),
    initial: 'manyhost',
  },
  ...SAMPLE_RULES,
} as const

/** What takes messages: a `Feed` in this process, or a `FeedClient` of one elsewhere. */
export interface Publisher {
  publish(channel: string, payload: string): unknown
}

/**
 * Tells a feed what happens in a session, from now on; the function that is returned ends that.
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
      // Closed, or full: who hears nothing notices by the feed's own words; the session goes on.
    }
  }
  return forwardSessionEvents(session, publish, sampling as SampleOptions)
}

/** A feed that hears nothing of the session any more once it is closed. */
export function publishSession(
  feed: Feed,
  session: Pick<SessionCore, 'on'>,
  options?: PublishOptions,
): void {
  const off = publishEvents(session, feed, options)
  feed.onClose(off)
}

/** Turns the `feed` section of a fleet file into options of `Feed`, and serves the feed over HTTP at the admin address. */
import type { RequestListener } from 'node:http'
import { dirname, resolve } from 'node:path'
import type { Config } from '../../config/config.ts'
import type { Feed } from '../../feed/broker.ts'
import { type FeedOptions, type Identities, parseFeedOptions } from '../../feed/broker-options.ts'
import { feedHandler } from '../../feed/http.ts'
import { fromFile } from '../../feed/identities/file.ts'

/** Undefined where the file has no `feed`. @throws ManyhostError MANYHOST_INVALID_OPTION */
export function toFeedOptions({ feed, file }: Config): FeedOptions | undefined {
  if (!feed) return undefined
  const { listen, identities, identitiesFile, http: _, ...rest } = feed
  const folder = file === undefined ? process.cwd() : dirname(file)
  const sources: Identities[] = []
  if (identities) sources.push(identities)
  if (identitiesFile !== undefined) sources.push(fromFile(resolve(folder, identitiesFile)))
  const options: FeedOptions = {
    ...rest,
    ...(listen && { endpoints: listen }),
    identities: sources,
  }
  parseFeedOptions(options)
  return options
}

/** Secrets of the feed, which must not be in a log. */
export function collectFeedSecrets({ feed }: Config): string[] {
  return Object.values(feed?.identities ?? {}).map(({ secret }) => secret)
}

/** `/feed` on the admin address, with the identities of the feed. */
export function createFeedMount(
  feed: Feed | undefined,
  config: Config,
): Readonly<Record<string, RequestListener>> {
  return feed && config.feed?.http ? { feed: feedHandler(feed) } : {}
}

export interface FeedLogger {
  warn(facts: object, text: string): void
  error(text: string): void
}

/** Who was refused, and what could not be read. */
export function logFeedEvents(feed: Feed | undefined, log: FeedLogger): void {
  feed?.on('refused', ({ ident, address, category, message }) => {
    log.warn({ ident, address, category }, `feed: ${address} was refused: ${message || category}`)
  })
  feed?.on('error', ({ message }) => log.error(`feed: ${message}`))
}

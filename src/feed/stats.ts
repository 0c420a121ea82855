/** The counts of a broker, as plain numbers. They become metrics when a scraper asks. */

/** Upper bounds of the histogram of message sizes, in bytes, as in the original. */
export const MESSAGE_SIZE_BOUNDS: readonly number[] = Array.from(
  { length: 13 },
  (_, i) => 1_024 * 2 ** i,
)

/** Why a broker refuses a connection: the original's categories, and some that the original does not have. */
export type FeedErrorCategory =
  | 'no-pub-permission'
  | 'invalid-secret'
  | 'invalid-ident'
  | 'invalid-first-message'
  | 'ident-mismatch-pub'
  | 'no-sub-permission'
  | 'deadline-timer-expired'
  | 'error-checking-ident'
  | 'invalid-frame'
  | 'second-auth'
  | 'auth-timeout'
  | 'too-many-connections'
  | 'too-many-subscriptions'

export class IdentStats {
  connectionsReady = 0
  connectionsLost = 0
  /** Bytes that were received, that were queued for sending, and that the system took. */
  receivedBytes = 0
  queuedBytes = 0
  drainedBytes = 0
  deadlineStarts = 0
  deadlineRecoveries = 0
  /** Messages that were dropped because the reader was too slow. */
  droppedMessages = 0
  readonly errors = new Map<FeedErrorCategory, number>()
}

export class RouteStats {
  count = 0
  bytes = 0
  readonly sizes = new Float64Array(MESSAGE_SIZE_BOUNDS.length + 1)

  countMessage(size: number): void {
    this.count++
    this.bytes += size
    let bucket = 0
    while (bucket < MESSAGE_SIZE_BOUNDS.length && size > (MESSAGE_SIZE_BOUNDS[bucket] as number))
      bucket++
    this.sizes[bucket] = (this.sizes[bucket] as number) + 1
  }
}

/** At most this many pairs of ident and channel are counted separately; messages of further pairs are counted as one channel. */
const MAX_COUNTED_ROUTES = 10_000

export class FeedStats {
  connectionsMade = 0
  readonly idents = new Map<string, IdentStats>()
  readonly routes = new Map<string, Map<string, RouteStats>>()
  #routeCount = 0

  /** '' stands for every peer that has not authenticated: an unproved ident must not become a label. */
  getIdentStats(ident: string): IdentStats {
    let stats = this.idents.get(ident)
    if (!stats) {
      stats = new IdentStats()
      this.idents.set(ident, stats)
    }
    return stats
  }

  countError(ident: string, category: FeedErrorCategory): void {
    const { errors } = this.getIdentStats(ident)
    errors.set(category, (errors.get(category) ?? 0) + 1)
  }

  getRouteStats(ident: string, channel: string): RouteStats {
    let routes = this.routes.get(ident)
    if (!routes) {
      routes = new Map()
      this.routes.set(ident, routes)
    }
    const name = routes.has(channel) || this.#routeCount < MAX_COUNTED_ROUTES ? channel : '(others)'
    let stats = routes.get(name)
    if (!stats) {
      stats = new RouteStats()
      routes.set(name, stats)
      this.#routeCount++
    }
    return stats
  }
}

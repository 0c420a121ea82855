/**
 * The broker's metrics for Prometheus, read at each scrape. The names are the original's, with `manyhost_feed_` in place of
 * `hpfeeds_broker_`: its dashboards need no other change.
 */
import type { Registry } from 'prom-client'
import {
  type AddToSeries,
  type HistogramBuckets,
  type MetricDefinition,
  type MetricSource,
  registerMetricSources,
} from '../core/prometheus.ts'
import type { FeedPeer } from './peer.ts'
import { type FeedStats, type IdentStats, MESSAGE_SIZE_BOUNDS } from './stats.ts'

/** Kind, labels and meaning. A test compares docs/feed.md with this table. */
export const FEED_METRICS = {
  manyhost_feed_client_connections: ['gauge', '', 'Connections that are open'],
  manyhost_feed_connection_made_total: ['counter', '', 'Connections that were opened'],
  manyhost_feed_connection_ready_total: ['counter', 'ident', 'Connections that authenticated'],
  manyhost_feed_connection_error_total: [
    'counter',
    'ident,category',
    'Connections that were refused, or ended because of what the peer did',
  ],
  manyhost_feed_connection_lost_total: ['counter', 'ident', 'Connections that ended'],
  manyhost_feed_connection_send_buffer_size: ['gauge', 'ident', 'Bytes that wait to be sent'],
  manyhost_feed_connection_receive_buffer_size: ['gauge', 'ident', 'Bytes of incomplete frames'],
  manyhost_feed_connection_receive_buffer_fill_total: [
    'counter',
    'ident',
    'Bytes that were received',
  ],
  manyhost_feed_connection_send_buffer_fill_total: [
    'counter',
    'ident',
    'Bytes that were queued for sending',
  ],
  manyhost_feed_connection_send_buffer_drain_total: ['counter', 'ident', 'Bytes that were sent'],
  manyhost_feed_connection_send_buffer_deadline_start_total: [
    'counter',
    'ident',
    'Times that the deadline of a slow reader began',
  ],
  manyhost_feed_connection_send_buffer_deadline_recover_total: [
    'counter',
    'ident',
    'Times that a slow reader caught up before its deadline',
  ],
  manyhost_feed_dropped_total: [
    'counter',
    'ident',
    'Messages that were dropped because their reader was too slow',
  ],
  manyhost_feed_subscriptions: ['gauge', 'ident,chan', 'Subscriptions'],
  manyhost_feed_receive_publish_count_total: [
    'counter',
    'ident,chan',
    'Messages that were published',
  ],
  manyhost_feed_receive_publish_size: [
    'histogram',
    'ident,chan',
    'Bytes of the payloads of published messages',
  ],
} as const satisfies Record<string, MetricDefinition>

type FeedMetricName = keyof typeof FEED_METRICS

export interface FeedMetricsInput {
  readonly stats: FeedStats
  readonly peers: ReadonlySet<FeedPeer>
}

const IDENT_READERS: Partial<Record<FeedMetricName, (stats: IdentStats) => number>> = {
  manyhost_feed_connection_ready_total: (stats) => stats.connectionsReady,
  manyhost_feed_connection_lost_total: (stats) => stats.connectionsLost,
  manyhost_feed_connection_receive_buffer_fill_total: (stats) => stats.receivedBytes,
  manyhost_feed_connection_send_buffer_fill_total: (stats) => stats.queuedBytes,
  manyhost_feed_connection_send_buffer_drain_total: (stats) => stats.drainedBytes,
  manyhost_feed_connection_send_buffer_deadline_start_total: (stats) => stats.deadlineStarts,
  manyhost_feed_connection_send_buffer_deadline_recover_total: (stats) => stats.deadlineRecoveries,
  manyhost_feed_dropped_total: (stats) => stats.droppedMessages,
}

const OTHER_READERS: Partial<
  Record<FeedMetricName, (input: FeedMetricsInput, add: AddToSeries) => void>
> = {
  manyhost_feed_client_connections: ({ peers }, add) => add({}, peers.size),
  manyhost_feed_connection_made_total: ({ stats }, add) => add({}, stats.connectionsMade),
  manyhost_feed_connection_error_total: ({ stats }, add) => {
    for (const [ident, { errors }] of stats.idents) {
      for (const [category, count] of errors) add({ ident, category }, count)
    }
  },
  manyhost_feed_connection_send_buffer_size: ({ peers }, add) => {
    for (const { ident, pendingBytes } of peers) add({ ident }, pendingBytes)
  },
  manyhost_feed_connection_receive_buffer_size: ({ peers }, add) => {
    for (const { ident, heldBytes } of peers) add({ ident }, heldBytes)
  },
  manyhost_feed_subscriptions: ({ peers }, add) => {
    for (const { ident, subscriptions } of peers) {
      for (const { name } of subscriptions) add({ ident, chan: name }, 1)
    }
  },
  manyhost_feed_receive_publish_count_total: ({ stats }, add) => {
    for (const [ident, routes] of stats.routes) {
      for (const [chan, { count }] of routes) add({ ident, chan }, count)
    }
  },
}

/**
 * Registers all metrics of a broker.
 * @returns a function that removes them from the registry
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function registerFeedMetrics(input: FeedMetricsInput, registry: Registry): () => void {
  const sources = Object.entries(FEED_METRICS).map(([key, definition]): MetricSource => {
    const name = key as FeedMetricName
    if (definition[0] === 'histogram')
      return { name, definition, buckets: () => iterateSizeBuckets(input.stats) }
    const byIdent = IDENT_READERS[name]
    const read = (add: AddToSeries): void => {
      if (byIdent) for (const [ident, stats] of input.stats.idents) add({ ident }, byIdent(stats))
      OTHER_READERS[name]?.(input, add)
    }
    return { name, definition, read }
  })
  return registerMetricSources(registry, 'feed', sources)
}

function* iterateSizeBuckets({ routes }: FeedStats): Generator<HistogramBuckets> {
  for (const [ident, channels] of routes) {
    for (const [chan, { sizes, bytes, count }] of channels) {
      yield {
        labels: { ident, chan },
        bounds: MESSAGE_SIZE_BOUNDS,
        counts: sizes,
        sum: bytes,
        count,
      }
    }
  }
}

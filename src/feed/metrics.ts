/**
 * The broker's figures for Prometheus, read when they are asked for. Names are the original's with `manyhost_feed_` for
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

/** Kind, labels and meaning. docs/feed.md is held against this table by a test. */
export const FEED_METRICS = {
  manyhost_feed_client_connections: ['gauge', '', 'Connections that are open'],
  manyhost_feed_connection_made_total: ['counter', '', 'Connections that were opened'],
  manyhost_feed_connection_ready_total: [
    'counter',
    'ident',
    'Connections that proved who they are',
  ],
  manyhost_feed_connection_error_total: [
    'counter',
    'ident,category',
    'Connections that were refused or ended for what they did',
  ],
  manyhost_feed_connection_lost_total: ['counter', 'ident', 'Connections that ended'],
  manyhost_feed_connection_send_buffer_size: ['gauge', 'ident', 'Bytes that wait to be sent'],
  manyhost_feed_connection_receive_buffer_size: [
    'gauge',
    'ident',
    'Bytes of frames that are not whole yet',
  ],
  manyhost_feed_connection_receive_buffer_fill_total: ['counter', 'ident', 'Bytes that came'],
  manyhost_feed_connection_send_buffer_fill_total: ['counter', 'ident', 'Bytes that were queued'],
  manyhost_feed_connection_send_buffer_drain_total: ['counter', 'ident', 'Bytes that were sent'],
  manyhost_feed_connection_send_buffer_deadline_start_total: [
    'counter',
    'ident',
    'Times that a reader was so slow that its deadline began',
  ],
  manyhost_feed_connection_send_buffer_deadline_recover_total: [
    'counter',
    'ident',
    'Times that it caught up before the deadline',
  ],
  manyhost_feed_dropped_total: ['counter', 'ident', 'Messages that a reader was too slow for'],
  manyhost_feed_subscriptions: ['gauge', 'ident,chan', 'Subscriptions'],
  manyhost_feed_receive_publish_count_total: [
    'counter',
    'ident,chan',
    'Messages that were published',
  ],
  manyhost_feed_receive_publish_size: ['histogram', 'ident,chan', 'Bytes of their payloads'],
} as const satisfies Record<string, MetricDefinition>

type FeedMetricName = keyof typeof FEED_METRICS

export interface FeedMetricsInput {
  readonly stats: FeedStats
  readonly peers: ReadonlySet<FeedPeer>
}

const IDENT_READERS: Partial<Record<FeedMetricName, (stats: IdentStats) => number>> = {
  manyhost_feed_connection_ready_total: ({ connectionsReady: ready }) => ready,
  manyhost_feed_connection_lost_total: ({ connectionsLost: lost }) => lost,
  manyhost_feed_connection_receive_buffer_fill_total: ({ receivedBytes: received }) => received,
  manyhost_feed_connection_send_buffer_fill_total: ({ queuedBytes: queued }) => queued,
  manyhost_feed_connection_send_buffer_drain_total: ({ drainedBytes: drained }) => drained,
  manyhost_feed_connection_send_buffer_deadline_start_total: (stats) => stats.deadlineStarts,
  manyhost_feed_connection_send_buffer_deadline_recover_total: (stats) => stats.deadlineRecoveries,
  manyhost_feed_dropped_total: ({ droppedMessages: dropped }) => dropped,
}

const OTHER_READERS: Partial<
  Record<FeedMetricName, (figures: FeedMetricsInput, add: AddToSeries) => void>
> = {
  manyhost_feed_client_connections: ({ peers }, add) => add({}, peers.size),
  manyhost_feed_connection_made_total: ({ stats }, add) => add({}, stats.connectionsMade),
  manyhost_feed_connection_error_total: ({ stats }, add) => {
    for (const [ident, { errors }] of stats.idents) {
      for (const [category, count] of errors) add({ ident, category }, count)
    }
  },
  manyhost_feed_connection_send_buffer_size: ({ peers }, add) => {
    for (const { ident, pendingBytes: pending } of peers) add({ ident }, pending)
  },
  manyhost_feed_connection_receive_buffer_size: ({ peers }, add) => {
    for (const { ident, heldBytes: held } of peers) add({ ident }, held)
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
 * Registers all of them with a registry.
 * @returns takes them out again
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function registerFeedMetrics(figures: FeedMetricsInput, registry: Registry): () => void {
  const sources = Object.entries(FEED_METRICS).map(([key, figure]): MetricSource => {
    const name = key as FeedMetricName
    if (figure[0] === 'histogram')
      return { name, definition: figure, buckets: () => iterateSizeBuckets(figures.stats) }
    const byIdent = IDENT_READERS[name]
    const read = (add: AddToSeries): void => {
      if (byIdent) for (const [ident, one] of figures.stats.idents) add({ ident }, byIdent(one))
      OTHER_READERS[name]?.(figures, add)
    }
    return { name, definition: figure, read }
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

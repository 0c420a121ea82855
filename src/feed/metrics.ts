/**
 * The broker's figures for Prometheus, read when they are asked for. Names are the original's with `manyhost_feed_` for
 * `hpfeeds_broker_`: its dashboards need no other change.
 */
import type { Registry } from 'prom-client'
import {
  type Add,
  type Buckets,
  type Figure,
  type FigureSource,
  registerFigures,
} from '../core/prometheus.ts'
import type { Peer } from './peer.ts'
import { type IdentStats, SIZES, type Stats } from './stats.ts'

/** Kind, labels and meaning. docs/feed.md is held against this table by a test. */
export const METRICS = {
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
} as const satisfies Record<string, Figure>

type Name = keyof typeof METRICS

export interface Figures {
  readonly stats: Stats
  readonly peers: ReadonlySet<Peer>
}

const BY_IDENT: Partial<Record<Name, (stats: IdentStats) => number>> = {
  manyhost_feed_connection_ready_total: ({ ready }) => ready,
  manyhost_feed_connection_lost_total: ({ lost }) => lost,
  manyhost_feed_connection_receive_buffer_fill_total: ({ received }) => received,
  manyhost_feed_connection_send_buffer_fill_total: ({ queued }) => queued,
  manyhost_feed_connection_send_buffer_drain_total: ({ drained }) => drained,
  manyhost_feed_connection_send_buffer_deadline_start_total: (stats) => stats.deadlineStarts,
  manyhost_feed_connection_send_buffer_deadline_recover_total: (stats) => stats.deadlineRecoveries,
  manyhost_feed_dropped_total: ({ dropped }) => dropped,
}

const OTHERS: Partial<Record<Name, (figures: Figures, add: Add) => void>> = {
  manyhost_feed_client_connections: ({ peers }, add) => add({}, peers.size),
  manyhost_feed_connection_made_total: ({ stats }, add) => add({}, stats.made),
  manyhost_feed_connection_error_total: ({ stats }, add) => {
    for (const [ident, { errors }] of stats.idents) {
      for (const [category, count] of errors) add({ ident, category }, count)
    }
  },
  manyhost_feed_connection_send_buffer_size: ({ peers }, add) => {
    for (const { ident, pending } of peers) add({ ident }, pending)
  },
  manyhost_feed_connection_receive_buffer_size: ({ peers }, add) => {
    for (const { ident, held } of peers) add({ ident }, held)
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
export function feedMetrics(figures: Figures, registry: Registry): () => void {
  const sources = Object.entries(METRICS).map(([key, figure]): FigureSource => {
    const name = key as Name
    if (figure[0] === 'histogram') return { name, figure, buckets: () => sizesOf(figures.stats) }
    const byIdent = BY_IDENT[name]
    const read = (add: Add): void => {
      if (byIdent) for (const [ident, one] of figures.stats.idents) add({ ident }, byIdent(one))
      OTHERS[name]?.(figures, add)
    }
    return { name, figure, read }
  })
  return registerFigures(registry, 'feed', sources)
}

function* sizesOf({ routes }: Stats): Generator<Buckets> {
  for (const [ident, channels] of routes) {
    for (const [chan, { sizes, bytes, count }] of channels) {
      yield { labels: { ident, chan }, bounds: SIZES, counts: sizes, sum: bytes, count }
    }
  }
}

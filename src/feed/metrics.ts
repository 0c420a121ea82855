/**
 * The broker's figures for Prometheus, read when they are asked for. Names are the original's with `manyhost_feed_` for
 * `hpfeeds_broker_`: its dashboards need no other change.
 */
import { Counter, Gauge, type Histogram, Registry } from 'prom-client'
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
} as const satisfies Record<string, readonly [string, string, string]>

type Name = keyof typeof METRICS
type Labels = Record<string, string>
type Add = (labels: Labels, value: number) => void

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

/** Registers all of them with a registry, a new one unless one is given. */
export function feedMetrics(figures: Figures, registry = new Registry()): Registry {
  for (const [key, [kind, labels, help]] of Object.entries(METRICS)) {
    const name = key as Name
    if (kind === 'histogram') {
      const sizes = new Sizes(name, help, figures.stats)
      registry.registerMetric(sizes as unknown as Histogram<string>)
      continue
    }
    const byIdent = BY_IDENT[name]
    const make = kind === 'counter' ? Counter : Gauge
    const metric: Counter | Gauge = new make({
      name,
      help,
      labelNames: labels === '' ? [] : labels.split(','),
      registers: [registry],
      collect() {
        metric.reset()
        const add: Add = (values, value) => metric.inc(values, value)
        if (byIdent) for (const [ident, one] of figures.stats.idents) add({ ident }, byIdent(one))
        OTHERS[name]?.(figures, add)
      },
    })
  }
  return registry
}

/** A histogram whose counts are kept elsewhere: prom-client's own would cost more than a message may. */
class Sizes {
  readonly name: string
  readonly help: string
  readonly type = 'histogram'
  readonly aggregator = 'sum'
  readonly #stats: Stats

  constructor(name: string, help: string, stats: Stats) {
    this.name = name
    this.help = help
    this.#stats = stats
  }

  async get(): Promise<object> {
    const { name, help, type, aggregator } = this
    const values: object[] = []
    for (const [ident, routes] of this.#stats.routes) {
      for (const [chan, { sizes, bytes, count }] of routes) {
        const labels = { ident, chan }
        const add = (metricName: string, value: number, more: object = {}): void => {
          values.push({ labels: { ...more, ...labels }, value, metricName })
        }
        let total = 0
        for (const [index, le] of SIZES.entries()) {
          total += sizes[index] as number
          add(`${name}_bucket`, total, { le })
        }
        add(`${name}_bucket`, count, { le: '+Inf' })
        add(`${name}_sum`, bytes)
        add(`${name}_count`, count)
      }
    }
    return { name, help, type, aggregator, values }
  }

  reset(): void {}
}

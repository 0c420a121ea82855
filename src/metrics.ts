/**
 * The session's figures for Prometheus, read when they are asked for: nothing is counted twice, and a session whose
 * metrics nobody reads pays nothing for them.
 */
import {
  Counter,
  Gauge,
  type MetricConfiguration,
  type Histogram as PromHistogram,
  Registry,
} from 'prom-client'
import type { InstanceState } from './events.ts'
import { BUCKETS, type Cluster, type Exemplar, type Exemplars, type Histogram } from './inside.ts'

const STATES: readonly InstanceState[] = ['pending', 'starting', 'ready', 'unready', 'draining']

/** Name, kind, labels and meaning of each metric. README's table is held against this one by a test. */
export const METRICS = {
  manyhost_requests_total: ['counter', 'service,method,code,outcome', 'Requests that ended'],
  manyhost_request_duration_seconds: [
    'histogram',
    'service',
    'From the call to the end of the answer, of answered requests',
  ],
  manyhost_queue_wait_seconds: ['histogram', 'service', 'Time in the queue, for each attempt'],
  manyhost_attempt_duration_seconds: [
    'histogram',
    'service',
    "From an attempt's dispatch to the head of its answer",
  ],
  manyhost_requests_in_flight: ['gauge', 'service', 'Requests that hold a place of an instance'],
  manyhost_queue_size: ['gauge', 'service', 'Requests that wait'],
  manyhost_queue_oldest_age_seconds: [
    'gauge',
    'service',
    'How long the longest-waiting request has waited',
  ],
  manyhost_instances: ['gauge', 'service,state', 'Instances by state'],
  manyhost_size_wanted: ['gauge', 'service', 'Instances that are wanted'],
  manyhost_starts_total: ['counter', 'service,outcome', 'Starts of instances: ready or failed'],
  manyhost_start_duration_seconds: [
    'histogram',
    'service',
    'From the start of a start to ready (cold start)',
  ],
  manyhost_resends_total: [
    'counter',
    'service,reason',
    'Attempts that failed and were followed by another',
  ],
  manyhost_hedges_total: [
    'counter',
    'service',
    'Second copies of requests that were slow to be answered',
  ],
  manyhost_executed_twice_total: [
    'counter',
    'service',
    'Requests of which more than one attempt was put on a connection',
  ],
  manyhost_ejections_total: [
    'counter',
    'service',
    'Instances that got no more requests until a probe passed',
  ],
} as const satisfies Record<string, readonly [string, string, string]>

type MetricName = keyof typeof METRICS
interface Measured {
  readonly histogram: Histogram
  readonly exemplars?: Exemplars
}

type Values = (
  cluster: Cluster,
  set: (labels: Record<string, string | number>, value: number) => void,
) => void

const SIMPLE: Partial<Record<MetricName, Values>> = {
  manyhost_requests_total: ({ traffic }, set) => {
    for (const { count, ...labels } of traffic.requests()) set(labels, count)
  },
  manyhost_requests_in_flight: ({ inFlight }, set) => set({}, inFlight),
  manyhost_queue_size: ({ requestQueue }, set) => set({}, requestQueue.size),
  manyhost_queue_oldest_age_seconds: ({ requestQueue }, set) =>
    set({}, requestQueue.oldestAge / 1_000),
  manyhost_instances: ({ instances }, set) => {
    for (const state of STATES) {
      set({ state }, instances.filter((instance) => instance.state === state).length)
    }
  },
  manyhost_size_wanted: ({ size }, set) => set({}, size),
  manyhost_starts_total: ({ starts }, set) => {
    set({ outcome: 'ready' }, starts.succeededCount)
    set({ outcome: 'failed' }, starts.failedCount)
  },
  manyhost_resends_total: ({ traffic }, set) => {
    for (const [reason, count] of traffic.resends) set({ reason }, count)
  },
  manyhost_hedges_total: ({ traffic }, set) => set({}, traffic.hedges),
  manyhost_executed_twice_total: ({ traffic }, set) => set({}, traffic.executedTwice),
  manyhost_ejections_total: ({ traffic }, set) => set({}, traffic.ejections),
}

const HISTOGRAMS: Partial<Record<MetricName, (cluster: Cluster) => Measured>> = {
  manyhost_request_duration_seconds: ({ traffic: { duration, exemplars } }) => ({
    histogram: duration,
    exemplars,
  }),
  manyhost_queue_wait_seconds: ({ traffic }) => ({ histogram: traffic.queueWait }),
  manyhost_attempt_duration_seconds: ({ traffic }) => ({ histogram: traffic.attempt }),
  manyhost_start_duration_seconds: ({ starts }) => ({ histogram: starts.duration }),
}

/** Registers all metrics of the clusters with a registry, a new one unless one is given. */
export function sessionMetrics(
  clusters: () => readonly Cluster[],
  registry = new Registry(),
): Registry {
  for (const [name, [kind, labels, help]] of Object.entries(METRICS)) {
    const values = SIMPLE[name as MetricName]
    const histogram = HISTOGRAMS[name as MetricName]
    const labelNames = labels.split(',')
    if (values) simple(kind, { name, help, labelNames, registers: [registry] }, clusters, values)
    else if (histogram) {
      const counted = new CountedHistogram(name, help, clusters, histogram)
      registry.registerMetric(counted as unknown as PromHistogram<string>)
    }
  }
  return registry
}

function simple(
  kind: string,
  configuration: MetricConfiguration<string>,
  clusters: () => readonly Cluster[],
  values: Values,
): void {
  const make = kind === 'counter' ? Counter : Gauge
  const metric: Counter | Gauge = new make({
    ...configuration,
    collect() {
      metric.reset()
      for (const cluster of clusters()) {
        values(cluster, (labels, value) => metric.inc({ service: cluster.url, ...labels }, value))
      }
    },
  })
}

/**
 * A histogram whose counts are kept elsewhere. prom-client's own takes each value with its labels, which costs more
 * than a request may; its registry asks a metric for no more than `get()`.
 */
class CountedHistogram {
  readonly name: string
  readonly help: string
  readonly type = 'histogram'
  readonly aggregator = 'sum'
  readonly #clusters: () => readonly Cluster[]
  readonly #measured: (cluster: Cluster) => Measured

  constructor(
    name: string,
    help: string,
    clusters: () => readonly Cluster[],
    measured: (cluster: Cluster) => Measured,
  ) {
    this.name = name
    this.help = help
    this.#clusters = clusters
    this.#measured = measured
  }

  async get(): Promise<object> {
    const { name, help, type, aggregator } = this
    const values = this.#clusters().flatMap((cluster) =>
      series(name, cluster.url, this.#measured(cluster)),
    )
    return { name, help, type, aggregator, values }
  }

  reset(): void {}
}

interface Sample {
  readonly labels: Record<string, string | number>
  readonly value: number
  readonly metricName: string
  readonly exemplar?: SampleExemplar | undefined
}

/** As prom-client has it; OpenMetrics shows it, the plain text does not. */
interface SampleExemplar {
  readonly labelSet: Record<string, string>
  readonly value: number
  readonly timestamp: number
}

function series(name: string, service: string, { histogram, exemplars }: Measured): Sample[] {
  const { counts, sum, count } = histogram
  const metricName = `${name}_bucket`
  let total = 0
  const buckets = BUCKETS.map((le, index) => {
    total += counts[index] as number
    const exemplar = shown(exemplars?.of(index))
    return { labels: { le, service }, value: total, metricName, exemplar }
  })
  return [
    ...buckets,
    {
      labels: { le: '+Inf', service },
      value: count,
      metricName,
      exemplar: shown(exemplars?.of(BUCKETS.length)),
    },
    { labels: { service }, value: sum / 1_000, metricName: `${name}_sum` },
    { labels: { service }, value: count, metricName: `${name}_count` },
  ]
}

/** Characters that the labels of an exemplar may have together, names and values (OpenMetrics 1.0, exemplars). */
const MOST = 128

function shown(exemplar: Exemplar | undefined): SampleExemplar | undefined {
  if (!exemplar) return undefined
  const { id, traceId, ms, at } = exemplar
  const labelSet: Record<string, string> = traceId === undefined ? {} : { trace_id: traceId }
  const taken = traceId === undefined ? 0 : 'trace_id'.length + traceId.length
  // One that a caller gave may be longer; a part of it would find nothing.
  if (taken + 'request_id'.length + id.length <= MOST) labelSet.request_id = id
  return { labelSet, value: ms / 1_000, timestamp: at / 1_000 }
}

/**
 * The session's metrics for Prometheus. They are read at each scrape, so that nothing is counted twice, and metrics that are
 * not read cost nothing.
 */
import type { Registry } from 'prom-client'
import type { Cluster } from '../cluster/cluster.ts'
import type { InstanceState } from '../core/events.ts'
import {
  type AddToSeries,
  type HistogramBuckets,
  type MetricDefinition,
  type MetricSource,
  registerMetricSources,
  type SampleExemplar,
} from '../core/prometheus.ts'
import type { Exemplar, Exemplars } from '../dispatch/exemplars.ts'
import { DURATION_BUCKETS, type Histogram } from '../dispatch/histogram.ts'

const STATES: readonly InstanceState[] = ['pending', 'starting', 'ready', 'unready', 'draining']

/** Name, kind, labels and meaning of each metric. A test compares README's table with this one. */
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
  manyhost_requests_in_flight: ['gauge', 'service', 'Requests that hold a slot of an instance'],
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
} as const satisfies Record<string, MetricDefinition>

type MetricName = keyof typeof METRICS
interface MeasuredHistogram {
  readonly histogram: Histogram
  readonly exemplars?: Exemplars
}

type ValueReader = (cluster: Cluster, add: AddToSeries) => void

const PLAIN_METRICS: Partial<Record<MetricName, ValueReader>> = {
  manyhost_requests_total: ({ traffic }, add) => {
    for (const { count, ...labels } of traffic.requestCounts()) add(labels, count)
  },
  manyhost_requests_in_flight: ({ inFlight }, add) => add({}, inFlight),
  manyhost_queue_size: ({ requestQueue }, add) => add({}, requestQueue.size),
  manyhost_queue_oldest_age_seconds: ({ requestQueue }, add) =>
    add({}, requestQueue.oldestAge / 1_000),
  manyhost_instances: ({ instances }, add) => {
    for (const state of STATES) {
      add({ state }, instances.filter((instance) => instance.state === state).length)
    }
  },
  manyhost_size_wanted: ({ size }, add) => add({}, size),
  manyhost_starts_total: ({ starts }, add) => {
    add({ outcome: 'ready' }, starts.succeededCount)
    add({ outcome: 'failed' }, starts.failedCount)
  },
  manyhost_resends_total: ({ traffic }, add) => {
    for (const [reason, count] of traffic.resends) add({ reason }, count)
  },
  manyhost_hedges_total: ({ traffic }, add) => add({}, traffic.hedges),
  manyhost_executed_twice_total: ({ traffic }, add) => add({}, traffic.executedTwice),
  manyhost_ejections_total: ({ traffic }, add) => add({}, traffic.ejections),
}

const HISTOGRAMS: Partial<Record<MetricName, (cluster: Cluster) => MeasuredHistogram>> = {
  manyhost_request_duration_seconds: ({ traffic: { duration, exemplars } }) => ({
    histogram: duration,
    exemplars,
  }),
  manyhost_queue_wait_seconds: ({ traffic }) => ({ histogram: traffic.queueWait }),
  manyhost_attempt_duration_seconds: ({ traffic }) => ({ histogram: traffic.attempt }),
  manyhost_start_duration_seconds: ({ starts }) => ({ histogram: starts.duration }),
}

/**
 * Registers all metrics of the clusters with a registry.
 * @returns a function that removes them
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function registerSessionMetrics(
  clusters: () => readonly Cluster[],
  registry: Registry,
): () => void {
  const sources = Object.entries(METRICS).map(([name, figure]): MetricSource => {
    const values = PLAIN_METRICS[name as MetricName]
    if (values) {
      const read = (add: AddToSeries): void => {
        for (const cluster of clusters()) {
          values(cluster, (labels, value) => add({ service: cluster.url, ...labels }, value))
        }
      }
      return { name, definition: figure, read }
    }
    const measured = HISTOGRAMS[name as MetricName] as (cluster: Cluster) => MeasuredHistogram
    return {
      name,
      definition: figure,
      buckets: () => clusters().map((cluster) => bucketsOf(cluster, measured)),
    }
  })
  return registerMetricSources(registry, 'session', sources)
}

function bucketsOf(
  cluster: Cluster,
  measured: (cluster: Cluster) => MeasuredHistogram,
): HistogramBuckets {
  const { histogram, exemplars } = measured(cluster)
  const { counts, sum, count } = histogram
  return {
    labels: { service: cluster.url },
    bounds: DURATION_BUCKETS,
    counts,
    sum: sum / 1_000,
    count,
    exemplarOf: (bucket) => toSampleExemplar(exemplars?.get(bucket)),
  }
}

/** Characters that the labels of an exemplar may have together, names and values (OpenMetrics 1.0, exemplars). */
const MAX_EXEMPLAR_LENGTH = 128

function toSampleExemplar(exemplar: Exemplar | undefined): SampleExemplar | undefined {
  if (!exemplar) return undefined
  const { id, traceId, ms, at } = exemplar
  const labelSet: Record<string, string> = traceId === undefined ? {} : { trace_id: traceId }
  const taken = traceId === undefined ? 0 : 'trace_id'.length + traceId.length
  // An id that a caller gave may be longer. It is left out then, as nothing can be found by a part of it.
  if (taken + 'request_id'.length + id.length <= MAX_EXEMPLAR_LENGTH) labelSet.request_id = id
  return { labelSet, value: ms / 1_000, timestamp: at / 1_000 }
}

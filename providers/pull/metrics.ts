/** Metrics of the hub for Prometheus. They are read when Prometheus asks for them. */
import type { Registry } from 'prom-client'
import {
  type AddToSeries,
  type MetricDefinition,
  registerMetricSources,
} from '../../src/core/prometheus.ts'
import type { JobHub } from './job-hub.ts'
import type { PullService } from './pull-service.ts'

type ServiceReader = (service: PullService, add: AddToSeries) => void

/** Name, kind, labels and meaning of each. A test compares the table in docs/pull.md with this one. */
export const PULL_METRICS = {
  manyhost_pull_submitted_total: ['counter', 'service', 'Jobs, those of requests included'],
  manyhost_pull_claims_total: ['counter', 'service', 'Jobs that were given to a worker'],
  manyhost_pull_ended_total: [
    'counter',
    'service,status',
    'Jobs that ended: COMPLETED, ERROR or CANCELLED',
  ],
  manyhost_pull_leases_expired_total: [
    'counter',
    'service',
    'Claims that ran out without a sign of life of the worker',
  ],
  manyhost_pull_late_total: [
    'counter',
    'service',
    'Results and signs of life that were refused because the claim was over',
  ],
  manyhost_pull_workers_lost_total: ['counter', 'service', 'Workers that missed their timeout'],
  manyhost_pull_queue_size: ['gauge', 'service', 'Jobs that wait for a worker'],
  manyhost_pull_working: ['gauge', 'service', 'Jobs that a worker has claimed'],
  manyhost_pull_workers: ['gauge', 'service', 'Workers that were heard of within their timeout'],
  manyhost_pull_waiting: ['gauge', 'service', 'Workers that wait for a job (long poll)'],
} as const satisfies Record<string, MetricDefinition>

const READERS: Record<keyof typeof PULL_METRICS, ServiceReader> = {
  manyhost_pull_submitted_total: ({ counts }, add) => add({}, counts.submitted),
  manyhost_pull_claims_total: ({ counts }, add) => add({}, counts.claimed),
  manyhost_pull_ended_total: ({ counts }, add) => {
    for (const [status, count] of Object.entries(counts.ended)) add({ status }, count)
  },
  manyhost_pull_leases_expired_total: ({ counts }, add) => add({}, counts.expired),
  manyhost_pull_late_total: ({ counts }, add) => add({}, counts.late),
  manyhost_pull_workers_lost_total: ({ counts }, add) => add({}, counts.lost),
  manyhost_pull_queue_size: ({ queue }, add) => add({}, queue.size),
  manyhost_pull_working: ({ workers }, add) =>
    add(
      {},
      [...workers.values()].reduce((sum, { jobs }) => sum + jobs.size, 0),
    ),
  manyhost_pull_workers: ({ workers }, add) => add({}, workers.size),
  manyhost_pull_waiting: ({ waiters }, add) => add({}, waiters.size),
}

/** @returns a function that removes the metrics again */
export function registerPullMetrics(registry: Registry, hub: () => JobHub | undefined): () => void {
  const sources = Object.entries(PULL_METRICS).map(([name, definition]) => {
    const readOne = READERS[name as keyof typeof PULL_METRICS]
    const read = (add: AddToSeries): void => {
      for (const one of hub()?.services.values() ?? []) {
        // The name alone need not be unique.
        const service = `${one.row.name}:${one.row.id.slice(0, 8)}`
        readOne(one, (labels, value) => add({ ...labels, service }, value))
      }
    }
    return { name, definition, read }
  })
  return registerMetricSources(registry, 'provider', sources)
}

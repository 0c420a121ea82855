/** Figures for Prometheus, read from the hub when they are asked for. */
import { Counter, Gauge, type Registry } from 'prom-client'
import type { Hub } from './hub.ts'
import type { Service } from './service.ts'

type Read = (
  service: Service,
  set: (labels: Readonly<Record<string, string>>, value: number) => void,
) => void

/** Name, kind, labels and meaning of each. docs/pull.md's table is held against this one by a test. */
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
    'Claims that ran out without a sign of the worker',
  ],
  manyhost_pull_late_total: [
    'counter',
    'service',
    'Results and signs of life that were refused: the claim was over',
  ],
  manyhost_pull_workers_lost_total: ['counter', 'service', 'Workers that missed their timeout'],
  manyhost_pull_queue_size: ['gauge', 'service', 'Jobs that wait for a worker'],
  manyhost_pull_working: ['gauge', 'service', 'Jobs that a worker has'],
  manyhost_pull_workers: ['gauge', 'service', 'Workers that are there'],
  manyhost_pull_waiting: ['gauge', 'service', 'Workers that wait for a job (long poll)'],
} as const satisfies Record<string, readonly ['counter' | 'gauge', string, string]>

const READS: Record<keyof typeof PULL_METRICS, Read> = {
  manyhost_pull_submitted_total: ({ counts }, set) => set({}, counts.submitted),
  manyhost_pull_claims_total: ({ counts }, set) => set({}, counts.claimed),
  manyhost_pull_ended_total: ({ counts }, set) => {
    for (const [status, count] of Object.entries(counts.ended)) set({ status }, count)
  },
  manyhost_pull_leases_expired_total: ({ counts }, set) => set({}, counts.expired),
  manyhost_pull_late_total: ({ counts }, set) => set({}, counts.late),
  manyhost_pull_workers_lost_total: ({ counts }, set) => set({}, counts.lost),
  manyhost_pull_queue_size: ({ line }, set) => set({}, line.size),
  manyhost_pull_working: ({ seats }, set) =>
    set(
      {},
      [...seats.values()].reduce((sum, { jobs }) => sum + jobs.size, 0),
    ),
  manyhost_pull_workers: ({ seats }, set) => set({}, seats.size),
  manyhost_pull_waiting: ({ waiters }, set) => set({}, waiters.size),
}

export function registerMetrics(registry: Registry, hub: () => Hub | undefined): void {
  for (const [name, [kind, labels, help]] of Object.entries(PULL_METRICS)) {
    const read = READS[name as keyof typeof PULL_METRICS]
    const common = { name, help, labelNames: labels.split(','), registers: [registry] }
    if (kind === 'gauge') {
      new Gauge({
        ...common,
        collect() {
          this.reset()
          each(hub(), read, (all, value) => this.set(all, value))
        },
      })
    } else {
      new Counter({
        ...common,
        collect() {
          this.reset()
          each(hub(), read, (all, value) => this.inc(all, value))
        },
      })
    }
  }
}

/** By name and the beginning of the id: names need not be unique. */
function each(
  hub: Hub | undefined,
  read: Read,
  put: (labels: Record<string, string>, value: number) => void,
): void {
  for (const one of hub?.services.values() ?? []) {
    const service = `${one.row.name}:${one.row.id.slice(0, 8)}`
    read(one, (labels, value) => put({ ...labels, service }, value))
  }
}

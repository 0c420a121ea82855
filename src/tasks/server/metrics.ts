/** Metrics of one run for Prometheus, read when they are scraped. */
import type { Registry } from 'prom-client'
import {
  type AddToSeries,
  type MetricDefinition,
  registerMetricSources,
} from '../../core/prometheus.ts'
import type { StoreProgress } from '../store/counts.ts'
import type { TaskCounts } from './result.ts'

export interface TaskMetricValues {
  readonly counts: TaskCounts
  readonly progress: StoreProgress | undefined
  /** Tasks that the server has claimed and that have no outcome. */
  readonly claimedCount: number
}

const OUTCOME_LABELS = ['succeeded', 'failed', 'cancelled', 'retried', 'refused'] as const
const STATE_LABELS = ['new', 'scheduled', 'succeeded', 'failed', 'retried', 'cancelled'] as const

/** Name, kind, labels and meaning of each; docs/tasks.md has their table. */
const TASK_METRICS = {
  manyhost_task_outcomes_total: [
    'counter',
    'outcome',
    'Outcomes that this server has stored; refused: outcomes that came too late',
  ],
  manyhost_tasks: ['gauge', 'state', 'Tasks that this server works off, by state'],
  manyhost_tasks_held: ['gauge', '', 'Tasks that this server has claimed and that have no outcome'],
} as const satisfies Record<string, MetricDefinition>

const METRIC_READERS: Record<
  keyof typeof TASK_METRICS,
  (values: TaskMetricValues, add: AddToSeries) => void
> = {
  manyhost_task_outcomes_total: ({ counts }, add) => {
    for (const outcome of OUTCOME_LABELS) add({ outcome }, counts[outcome])
  },
  manyhost_tasks: ({ progress }, add) => {
    if (progress) for (const state of STATE_LABELS) add({ state }, progress[state])
  },
  manyhost_tasks_held: ({ claimedCount }, add) => add({}, claimedCount),
}

/** Answers a function that removes them again. */
export function registerTaskMetrics(registry: Registry, values: TaskMetricValues): () => void {
  const names = Object.keys(TASK_METRICS) as (keyof typeof TASK_METRICS)[]
  const sources = names.map((name) => ({
    name,
    definition: TASK_METRICS[name],
    read: (add: AddToSeries) => METRIC_READERS[name](values, add),
  }))
  return registerMetricSources(registry, 'server', sources)
}

/** Numbers of one run for Prometheus, read at scrape. */
import type { Registry } from 'prom-client'
import { type Add, type Figure, registerFigures } from '../../core/prometheus.ts'
import type { Progress } from '../store/counts.ts'
import type { TaskCounts } from './result.ts'

export interface Watched {
  readonly counts: TaskCounts
  readonly progress: Progress | undefined
  readonly held: number
}

const OUTCOMES = ['succeeded', 'failed', 'cancelled', 'retried', 'refused'] as const
const STATES = ['new', 'scheduled', 'succeeded', 'failed', 'retried', 'cancelled'] as const

/** Name, kind, labels and meaning of each; docs/tasks.md has their table. */
const TASK_METRICS = {
  manyhost_task_outcomes_total: [
    'counter',
    'outcome',
    'Outcomes that this server has kept; refused: that came too late',
  ],
  manyhost_tasks: ['gauge', 'state', 'Tasks that this server works off, by state'],
  manyhost_tasks_held: ['gauge', '', 'Tasks that this server has claimed and that have no outcome'],
} as const satisfies Record<string, Figure>

const READS: Record<keyof typeof TASK_METRICS, (watched: Watched, add: Add) => void> = {
  manyhost_task_outcomes_total: ({ counts }, add) => {
    for (const outcome of OUTCOMES) add({ outcome }, counts[outcome])
  },
  manyhost_tasks: ({ progress }, add) => {
    if (progress) for (const state of STATES) add({ state }, progress[state])
  },
  manyhost_tasks_held: ({ held }, add) => add({}, held),
}

/** Answers how to take them out again. */
export function taskMetrics(registry: Registry, watched: () => Watched): () => void {
  const names = Object.keys(TASK_METRICS) as (keyof typeof TASK_METRICS)[]
  const sources = names.map((name) => ({
    name,
    figure: TASK_METRICS[name],
    read: (add: Add) => READS[name](watched(), add),
  }))
  return registerFigures(registry, 'server', sources)
}

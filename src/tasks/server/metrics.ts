/** Numbers of one run for Prometheus, read at scrape. */
import { Counter, Gauge, type Registry } from 'prom-client'
import type { Progress } from '../store/counts.ts'
import type { TaskCounts } from './result.ts'

export interface Watched {
  readonly counts: TaskCounts
  readonly progress: Progress | undefined
  readonly held: number
}

const OUTCOMES = ['succeeded', 'failed', 'cancelled', 'retried', 'refused'] as const
const STATES = ['new', 'scheduled', 'succeeded', 'failed', 'retried', 'cancelled'] as const

/** docs/tasks.md has their table. Answers how to take them out again. */
export function taskMetrics(registry: Registry, watched: () => Watched): () => void {
  const registers = [registry]
  new Counter({
    name: 'manyhost_task_outcomes_total',
    help: 'Outcomes that this server has kept; refused: that came too late',
    labelNames: ['outcome'],
    registers,
    collect() {
      this.reset()
      const { counts } = watched()
      for (const outcome of OUTCOMES) this.inc({ outcome }, counts[outcome])
    },
  })
  new Gauge({
    name: 'manyhost_tasks',
    help: 'Tasks of the store by state',
    labelNames: ['state'],
    registers,
    collect() {
      const { progress } = watched()
      if (progress) for (const state of STATES) this.set({ state }, progress[state])
    },
  })
  new Gauge({
    name: 'manyhost_tasks_held',
    help: 'Tasks that this server has claimed and that have no outcome',
    registers,
    collect() {
      this.set(watched().held)
    },
  })
  return () => {
    for (const name of ['manyhost_task_outcomes_total', 'manyhost_tasks', 'manyhost_tasks_held']) {
      registry.removeSingleMetric(name)
    }
  }
}

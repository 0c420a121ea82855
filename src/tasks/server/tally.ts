/** Counts what became of tasks. */
import type { Task } from '../task.ts'
import {
  cancelledResult,
  type Ended,
  outcomeOf,
  resultOf,
  type TaskCounts,
  type TaskResult,
} from './result.ts'

export class Tally {
  readonly #counts = { submitted: 0, succeeded: 0, failed: 0, cancelled: 0, retried: 0, refused: 0 }
  /** How often a task is tried in all. */
  readonly #attempts: number

  constructor(attempts: number) {
    this.#attempts = attempts
  }

  get counts(): TaskCounts {
    return { ...this.#counts }
  }

  submitted(count: number): void {
    this.#counts.submitted += count
  }

  /** Somebody cancelled these. Answers their results. */
  cancelled(tasks: readonly Task[]): TaskResult[] {
    this.#counts.cancelled += tasks.length
    return tasks.map(cancelledResult)
  }

  /** Answers the results of those that were not refused. */
  ended(all: readonly Ended[], refused: ReadonlyMap<string, unknown>): TaskResult[] {
    const results: TaskResult[] = []
    for (const { task, outcome, message } of all) {
      if (refused.has(task.id)) {
        this.#counts.refused++
        continue
      }
      const { exitStatus } = outcome
      const willRetry = exitStatus !== 0 && exitStatus !== -1 && task.attempt < this.#attempts
      this.#counts[outcomeOf({ exitStatus, willRetry })]++
      results.push(resultOf(task, outcome, willRetry, message))
    }
    return results
  }
}

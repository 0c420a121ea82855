/** Counts what became of tasks. */
import type { Task } from '../model/task.ts'
import {
  type CompletedAttempt,
  classifyOutcome,
  type TaskCounts,
  type TaskResult,
  toCancelledResult,
  toTaskResult,
} from './result.ts'

export class TaskCounters {
  readonly #counts = { submitted: 0, succeeded: 0, failed: 0, cancelled: 0, retried: 0, refused: 0 }
  /** How often a task is tried in all. */
  readonly #maxAttempts: number

  constructor(attempts: number) {
    this.#maxAttempts = attempts
  }

  get counts(): TaskCounts {
    return { ...this.#counts }
  }

  addSubmitted(count: number): void {
    this.#counts.submitted += count
  }

  /** Somebody cancelled these. Answers their results. */
  addCancelled(tasks: readonly Task[]): TaskResult[] {
    this.#counts.cancelled += tasks.length
    return tasks.map(toCancelledResult)
  }

  /** Answers the results of those that were not refused. */
  addCompleted(
    all: readonly CompletedAttempt[],
    refused: ReadonlyMap<string, unknown>,
  ): TaskResult[] {
    const results: TaskResult[] = []
    for (const { task, outcome, message } of all) {
      if (refused.has(task.id)) {
        this.#counts.refused++
        continue
      }
      const { exitStatus } = outcome
      const willRetry = exitStatus !== 0 && exitStatus !== -1 && task.attempt < this.#maxAttempts
      this.#counts[classifyOutcome({ exitStatus, willRetry })]++
      results.push(toTaskResult(task, outcome, willRetry, message))
    }
    return results
  }
}

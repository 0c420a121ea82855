/** Counts results by what became of the task. */
import { isFailure } from '../model/exit-status.ts'
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

  constructor(maxAttempts: number) {
    this.#maxAttempts = maxAttempts
  }

  get counts(): TaskCounts {
    return { ...this.#counts }
  }

  addSubmitted(count: number): void {
    this.#counts.submitted += count
  }

  /** Counts tasks that were cancelled, and answers their results. */
  addCancelled(tasks: readonly Task[]): TaskResult[] {
    this.#counts.cancelled += tasks.length
    return tasks.map(toCancelledResult)
  }

  /** Counts attempts, and answers the results of those that the store did not refuse. */
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
      const willRetry = isFailure(exitStatus) && task.attempt < this.#maxAttempts
      this.#counts[classifyOutcome({ exitStatus, willRetry })]++
      results.push(toTaskResult(task, outcome, willRetry, message))
    }
    return results
  }
}

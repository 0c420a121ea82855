/** Counts what became of tasks, and hands their results on, no faster than these are taken. */
import type { Task } from '../model/task.ts'
import type { OutcomeRefusal } from '../store/complete-tasks.ts'
import type { Cancellations } from './cancellations.ts'
import type { CompletedAttempt, TaskCounts, TaskResult } from './result.ts'
import { TaskCounters } from './task-counters.ts'

export interface ResultReporterParts {
  readonly maxAttempts: number
  readonly cancellations: Cancellations
  /** Takes the results. Nothing more is claimed while its promise is pending. */
  onResults(results: readonly TaskResult[]): Promise<void>
}

export class ResultReporter {
  readonly #parts: ResultReporterParts
  readonly #counters: TaskCounters
  /** Pending while the results are read more slowly than they come. */
  #taken: Promise<void> | undefined

  constructor(parts: ResultReporterParts) {
    this.#parts = parts
    this.#counters = new TaskCounters(parts.maxAttempts)
  }

  get counts(): TaskCounts {
    return this.#counters.counts
  }

  /** Counts tasks of the source. */
  addSubmitted(count: number): void {
    this.#counters.addSubmitted(count)
  }

  /** Resolves when the results that were reported so far have been taken. */
  async waitUntilTaken(): Promise<void> {
    await this.#taken
    this.#taken = undefined
  }

  /** Attempts whose outcomes are in the store, but for those that were refused. */
  async reportCompleted(
    all: readonly CompletedAttempt[],
    refused: ReadonlyMap<string, OutcomeRefusal>,
  ): Promise<void> {
    const late = all.filter(({ task }) => refused.get(task.id) === 'evicted')
    const cancelled =
      late.length > 0
        ? await this.#parts.cancellations.filterCancelled(late.map(({ task }) => task))
        : []
    const ids = new Set(cancelled.map(({ id }) => id))
    const rest = ids.size > 0 ? all.filter(({ task }) => !ids.has(task.id)) : all
    const results = [
      ...this.#counters.addCompleted(rest, refused),
      ...this.#counters.addCancelled(cancelled),
    ]
    this.#taken = this.#parts.onResults(results)
  }

  /** Tasks that the store did not take back: some of them were cancelled meanwhile. */
  async reportUnreleased(tasks: readonly Task[]): Promise<void> {
    const cancelled = await this.#parts.cancellations.filterCancelled(tasks)
    if (cancelled.length > 0) await this.#reportCancelled(cancelled)
  }

  /** Tasks that were cancelled while nobody had claimed them. Answers whether there were any. */
  async reportCancelledWaiting(): Promise<boolean> {
    let isAny = false
    for await (const tasks of this.#parts.cancellations.listUnreported()) {
      await this.#reportCancelled(tasks)
      isAny = true
    }
    return isAny
  }

  async #reportCancelled(tasks: readonly Task[]): Promise<void> {
    const results = this.#counters.addCancelled(tasks)
    await this.#taken
    this.#taken = this.#parts.onResults(results)
  }
}

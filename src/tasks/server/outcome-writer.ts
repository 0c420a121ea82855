/** Outcomes on their way into the store: many in one transaction, and tried again while the store cannot take them. */
import { asError, describeError } from '../../core/errors.ts'
import { after, sleep, type Timer } from '../../core/time.ts'
import type { OutcomeRefusal } from '../store/complete-tasks.ts'
import type { Store } from '../store/store.ts'
import type { ClaimedTasks } from './claimed-tasks.ts'
import type { ProblemReporter } from './problem-reporter.ts'
import type { CompletedAttempt } from './result.ts'
import { isTransient, storeRetryDelay } from './store-retry.ts'
import type { TaskOutputs } from './task-outputs.ts'

export interface OutcomeWriterParts {
  readonly store: Pick<Store, 'complete'>
  /** Most outcomes of one transaction. */
  readonly batchSize: number
  /** How often a task is tried in all. */
  readonly maxAttempts: number
  /** Longest wait of an outcome for others, in ms. */
  readonly waitMs: number
  /** When the outcomes of all running tasks wait here, no other outcome can come. */
  readonly claimed: Pick<ClaimedTasks, 'runningCount'>
  readonly outputs: Pick<TaskOutputs, 'isCaptured' | 'finish'>
  /** Whether tasks that are not captured may have output that is not passed on yet. */
  readonly mayHaveOutput: boolean
  readonly problems: Pick<ProblemReporter, 'report'>
}

export interface OutcomeSink {
  /** These are stored, or were refused because the claim is not valid any more: `refused` has the ids and the reasons. */
  outcomesStored(
    all: readonly CompletedAttempt[],
    refused: ReadonlyMap<string, OutcomeRefusal>,
  ): Promise<void>
  /** The store has failed for good. */
  fail(error: Error): void
}

export class OutcomeWriter {
  readonly #parts: OutcomeWriterParts
  readonly #sink: OutcomeSink
  #waiting: CompletedAttempt[] = []
  #timer: Timer | undefined
  #flushing: Promise<void> | undefined
  #isClosed = false

  constructor(parts: OutcomeWriterParts, sink: OutcomeSink) {
    this.#parts = parts
    this.#sink = sink
  }

  /** Outcomes that wait to be stored. */
  get size(): number {
    return this.#waiting.length
  }

  /** The outcome is stored after all output of its task. */
  addOutcome(attempt: CompletedAttempt): void {
    const { outputs, mayHaveOutput, problems } = this.#parts
    const { task, outcome, message } = attempt
    const hasOutput = mayHaveOutput || message !== undefined || outputs.isCaptured(task)
    // Most tasks take this way, which makes no promise.
    if (!hasOutput) return this.#enqueue(attempt)
    outputs.finish(task, message).then(
      (paths) => this.#enqueue({ task, outcome: { ...outcome, ...paths }, message }),
      (error) => {
        problems.report(describeError(error))
        this.#enqueue(attempt)
      },
    )
  }

  /** Resolves when all that there is by now is stored. Never rejects. */
  async flush(): Promise<void> {
    this.#timer?.clear()
    this.#timer = undefined
    while (this.#flushing) await this.#flushing
    if (this.#waiting.length === 0) return
    this.#flushing = this.#storeWaiting()
    await this.#flushing
  }

  /** From now on nothing is tried again. */
  close(): void {
    this.#isClosed = true
    this.#timer?.clear()
  }

  #enqueue(attempt: CompletedAttempt): void {
    this.#waiting.push(attempt)
    const { length } = this.#waiting
    const { batchSize, claimed, waitMs } = this.#parts
    if (length >= batchSize || length >= claimed.runningCount) void this.flush()
    else this.#timer ??= after(waitMs, () => void this.flush())
  }

  async #storeWaiting(): Promise<void> {
    const all = this.#waiting
    this.#waiting = []
    try {
      for (let index = 0; index < all.length; index += this.#parts.batchSize) {
        await this.#storeBatch(all.slice(index, index + this.#parts.batchSize))
      }
    } catch (error) {
      this.#sink.fail(asError(error))
    } finally {
      this.#flushing = undefined
    }
  }

  async #storeBatch(batch: readonly CompletedAttempt[]): Promise<void> {
    const { store, maxAttempts, problems } = this.#parts
    for (let failures = 0; ; failures++) {
      try {
        const outcomes = batch.map(({ outcome }) => outcome)
        const { refused } = await store.complete(outcomes, maxAttempts)
        await this.#sink.outcomesStored(
          batch,
          new Map(refused.map(({ id, reason }) => [id, reason])),
        )
        return
      } catch (error) {
        if (!isTransient(error) || this.#isClosed) throw error
        if (failures === 0) {
          problems.report(`${describeError(error)}; ${batch.length} outcomes wait to be stored`)
        }
        await sleep(storeRetryDelay(failures))
      }
    }
  }
}

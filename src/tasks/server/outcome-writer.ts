/** OutcomeWriter on their way into the store: many in one transaction, and tried again while the store cannot take them. */
import { asError, describeError, ManyhostError } from '../../core/errors.ts'
import { after, sleep, type Timer } from '../../core/time.ts'
import type { OutcomeRefusal } from '../store/complete-tasks.ts'
import type { Store } from '../store/store.ts'
import type { CompletedAttempt } from './result.ts'
import type { TaskOutputs } from './task-outputs.ts'

export interface OutcomeWriterParts {
  readonly store: Store
  readonly batchSize: number
  /** How often a task is tried in all. */
  readonly maxAttempts: number
  /** Milliseconds. */
  readonly waitMs: number
  /** Tasks whose outcomes are not kept yet: when all of them wait here, there is nothing to wait for. */
  countRunning(): number
  readonly outputs: TaskOutputs
  /** Whether tasks may have written something whose output is not kept. */
  readonly mayHaveOutput: boolean
  /** These are kept, or were refused: somebody else has the task. */
  onStored(
    all: readonly CompletedAttempt[],
    refused: ReadonlyMap<string, OutcomeRefusal>,
  ): Promise<void>
  reportProblem(message: string): void
  onFailed(error: Error): void
}

/** Between two tries of a store that is busy or full, in ms. */
const RETRY_DELAYS_MS = [50, 200, 1_000, 5_000]

export class OutcomeWriter {
  readonly #parts: OutcomeWriterParts
  #waiting: CompletedAttempt[] = []
  #timer: Timer | undefined
  #flushing: Promise<void> | undefined
  #isClosed = false

  constructor(parts: OutcomeWriterParts) {
    this.#parts = parts
  }

  get size(): number {
    return this.#waiting.length
  }

  /** Keeps it when all that the task wrote is there. */
  addOutcome(one: CompletedAttempt): void {
    const { outputs, mayHaveOutput: mayWrite, reportProblem: problem } = this.#parts
    const { task, outcome, message } = one
    if (!mayWrite && message === undefined && !outputs.isCaptured(task)) return this.#enqueue(one)
    outputs.finish(task, message).then(
      (paths) => this.#enqueue({ task, outcome: { ...outcome, ...paths }, message }),
      (error) => {
        problem(describeError(error))
        this.#enqueue(one)
      },
    )
  }

  /** Resolves when all that there is by now is kept. Never rejects. */
  async flush(): Promise<void> {
    this.#timer?.clear()
    this.#timer = undefined
    while (this.#flushing) await this.#flushing
    if (this.#waiting.length === 0) return
    this.#flushing = this.#storeWaiting()
    await this.#flushing
  }

  /** Tries no more. */
  close(): void {
    this.#isClosed = true
    this.#timer?.clear()
  }

  #enqueue(one: CompletedAttempt): void {
    this.#waiting.push(one)
    const { length } = this.#waiting
    if (length >= this.#parts.batchSize || length >= this.#parts.countRunning()) void this.flush()
    else this.#timer ??= after(this.#parts.waitMs, () => void this.flush())
  }

  async #storeWaiting(): Promise<void> {
    const all = this.#waiting
    this.#waiting = []
    try {
      for (let index = 0; index < all.length; index += this.#parts.batchSize) {
        await this.#storeBatch(all.slice(index, index + this.#parts.batchSize))
      }
    } catch (error) {
      this.#parts.onFailed(asError(error))
    } finally {
      this.#flushing = undefined
    }
  }

  async #storeBatch(part: readonly CompletedAttempt[]): Promise<void> {
    const { store, maxAttempts: attempts, onStored: kept, reportProblem: problem } = this.#parts
    for (let tries = 0; ; tries++) {
      try {
        const outcomes = part.map(({ outcome }) => outcome)
        const { refused } = await store.complete(outcomes, attempts)
        await kept(part, new Map(refused.map(({ id, reason }) => [id, reason])))
        return
      } catch (error) {
        const isPassing = error instanceof ManyhostError && error.retryable
        if (!isPassing || this.#isClosed) throw error
        if (tries === 0) problem(`${describeError(error)}; ${part.length} outcomes wait`)
        await sleep(RETRY_DELAYS_MS[Math.min(tries, RETRY_DELAYS_MS.length - 1)] as number)
      }
    }
  }
}

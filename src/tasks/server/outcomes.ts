/** Outcomes on their way into the store: many in one transaction, and tried again while the store cannot take them. */
import { asError, describe, ManyhostError } from '../../core/errors.ts'
import { after, sleep, type Timer } from '../../core/time.ts'
import type { Refused } from '../store/claims.ts'
import type { Store } from '../store/store.ts'
import type { Outputs } from './outputs.ts'
import type { Ended } from './result.ts'

export interface OutcomeParts {
  readonly store: Store
  readonly size: number
  /** How often a task is tried in all. */
  readonly attempts: number
  /** Milliseconds. */
  readonly wait: number
  /** Tasks whose outcomes are not kept yet: when all of them wait here, there is nothing to wait for. */
  running(): number
  readonly outputs: Outputs
  /** Whether tasks may have written something whose output is not kept. */
  readonly mayWrite: boolean
  /** These are kept, or were refused: somebody else has the task. */
  kept(all: readonly Ended[], refused: ReadonlyMap<string, Refused>): Promise<void>
  problem(message: string): void
  failed(error: Error): void
}

/** Between two tries of a store that is busy or full, in ms. */
const AGAIN = [50, 200, 1_000, 5_000]

export class Outcomes {
  readonly #parts: OutcomeParts
  #waiting: Ended[] = []
  #timer: Timer | undefined
  #flushing: Promise<void> | undefined
  #isClosed = false

  constructor(parts: OutcomeParts) {
    this.#parts = parts
  }

  get size(): number {
    return this.#waiting.length
  }

  /** Keeps it when all that the task wrote is there. */
  settle(one: Ended): void {
    const { outputs, mayWrite, problem } = this.#parts
    const { task, outcome, message } = one
    if (!mayWrite && message === undefined && !outputs.keeps(task)) return this.#add(one)
    outputs.end(task, message).then(
      (paths) => this.#add({ task, outcome: { ...outcome, ...paths }, message }),
      (error) => {
        problem(describe(error))
        this.#add(one)
      },
    )
  }

  /** Resolves when all that there is by now is kept. Never rejects. */
  async flush(): Promise<void> {
    this.#timer?.clear()
    this.#timer = undefined
    while (this.#flushing) await this.#flushing
    if (this.#waiting.length === 0) return
    this.#flushing = this.#write()
    await this.#flushing
  }

  /** Tries no more. */
  close(): void {
    this.#isClosed = true
    this.#timer?.clear()
  }

  #add(one: Ended): void {
    this.#waiting.push(one)
    const { length } = this.#waiting
    if (length >= this.#parts.size || length >= this.#parts.running()) void this.flush()
    else this.#timer ??= after(this.#parts.wait, () => void this.flush())
  }

  async #write(): Promise<void> {
    const all = this.#waiting
    this.#waiting = []
    try {
      for (let index = 0; index < all.length; index += this.#parts.size) {
        await this.#keep(all.slice(index, index + this.#parts.size))
      }
    } catch (error) {
      this.#parts.failed(asError(error))
    } finally {
      this.#flushing = undefined
    }
  }

  async #keep(part: readonly Ended[]): Promise<void> {
    const { store, attempts, kept, problem } = this.#parts
    for (let tries = 0; ; tries++) {
      try {
        const outcomes = part.map(({ outcome }) => outcome)
        const { refused } = await store.complete(outcomes, attempts)
        await kept(part, new Map(refused.map(({ id, why }) => [id, why])))
        return
      } catch (error) {
        const isPassing = error instanceof ManyhostError && error.retryable
        if (!isPassing || this.#isClosed) throw error
        if (tries === 0) problem(`${describe(error)}; ${part.length} outcomes wait`)
        await sleep(AGAIN[Math.min(tries, AGAIN.length - 1)] as number)
      }
    }
  }
}

/** Outcomes on their way into the store: many in one transaction, and tried again while the store cannot take them. */
import { asError, describe, ManyhostError } from '../../errors.ts'
import { after, sleep, type Timer } from '../../time.ts'
import type { Refused } from '../store/claims.ts'
import type { Store } from '../store/store.ts'
import type { Task, TaskOutcome } from '../task.ts'

export interface Ended {
  readonly task: Task
  readonly outcome: TaskOutcome
  readonly message: string | undefined
}

export interface OutcomeParts {
  readonly store: Store
  readonly size: number
  /** Milliseconds. */
  readonly wait: number
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

  add(one: Ended): void {
    this.#waiting.push(one)
    if (this.#waiting.length >= this.#parts.size) void this.flush()
    else this.#timer ??= after(this.#parts.wait, () => void this.flush())
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
    const { store, kept, problem } = this.#parts
    for (let tries = 0; ; tries++) {
      try {
        const { refused } = await store.complete(part.map(({ outcome }) => outcome))
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

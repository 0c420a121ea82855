/** A source on its way into the store, no faster than it is worked off. */
import { asError } from '../../errors.ts'
import { sleep } from '../../time.ts'
import type { NewTask } from '../task.ts'

/** Tasks of one transaction. */
const MOST = 1_000

export interface FeedParts {
  readonly tasks: AsyncIterable<NewTask>
  /** Takes them in. */
  add(tasks: readonly NewTask[]): Promise<void>
  /** Resolves when there is room for more, with how many; with 0 where there never will be. */
  room(): Promise<number>
  /** Tasks that are read ahead of those that were handed in. @default 1000, which is also the most */
  readonly ahead?: number
}

export class Feed {
  /** Resolves when all is in the store; rejects with what the source threw, after all before that is in. */
  readonly done: Promise<void>
  readonly #parts: FeedParts
  readonly #ahead: number
  #isStopped = false
  #held: NewTask[] = []
  #wake: (() => void) | undefined
  #isRead = false

  constructor(parts: FeedParts) {
    this.#parts = parts
    this.#ahead = Math.min(MOST, parts.ahead ?? MOST)
    this.done = this.#run()
    // Who waits for it hears of it; until then it is no unhandled rejection.
    this.done.catch(() => {})
  }

  /** Reads no further. What was read is handed in. */
  stop(): void {
    this.#isStopped = true
  }

  async #run(): Promise<void> {
    const writing = this.#write()
    writing.catch(() => this.stop())
    let failure: Error | undefined
    try {
      for await (const task of this.#parts.tasks) {
        this.#held.push(task)
        this.#wake?.()
        // The writer is behind: it sets the pace.
        if (this.#held.length >= this.#ahead) await this.#taken(writing)
        if (this.#isStopped) break
      }
    } catch (error) {
      failure = asError(error)
    }
    this.#isRead = true
    this.#wake?.()
    await writing
    if (failure) throw failure
  }

  async #taken(writing: Promise<void>): Promise<void> {
    while (this.#held.length >= this.#ahead && !this.#isStopped) {
      await Promise.race([writing, sleep(2)])
    }
  }

  async #write(): Promise<void> {
    for (;;) {
      if (this.#held.length === 0) {
        if (this.#isRead) return
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
        this.#wake = undefined
        // A little later there may be many: the first one hardly waits, and a million go by the thousand.
        await sleep(1)
        continue
      }
      const room = this.#isStopped ? 0 : await this.#parts.room()
      if (room === 0) this.stop()
      // What was read before the end is handed in all the same.
      const batch = this.#held.splice(0, room || this.#held.length)
      await this.#parts.add(batch)
    }
  }
}

/** A source on its way into the store, no faster than it is worked off. */
import { asError } from '../../core/errors.ts'
import { watch } from '../../core/guarded.ts'
import { after, sleep, type Timer, within } from '../../core/time.ts'
import type { NewTask } from '../task.ts'

/** How long a source that is stopped may take for the task that it was asked for, in ms. */
const GRACE = 1_000

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
  /** Tasks of one `add`, at most. @default `ahead` */
  readonly bundle?: number
  /** Ms that the first of a bundle waits for the others. @default 0: what there is goes */
  readonly wait?: number
}

export class Feed {
  /** Resolves when all is in the store; rejects with what the source threw, after all before that is in. */
  readonly done: Promise<void>
  readonly #parts: FeedParts
  readonly #ahead: number
  readonly #bundle: number
  #isStopped = false
  #onStop: () => void = () => undefined
  #held: NewTask[] = []
  /** The writer, who waits until so many are held. */
  #awaited: { readonly count: number; readonly wake: () => void } | undefined
  #isRead = false
  #isWhole = false

  constructor(parts: FeedParts) {
    this.#parts = parts
    this.#ahead = Math.min(MOST, parts.ahead ?? MOST)
    this.#bundle = Math.min(this.#ahead, parts.bundle ?? MOST)
    this.done = this.#run()
    // Who waits for it hears of it; until then it is no unhandled rejection.
    this.done.catch(() => {})
  }

  /** Whether the source was read to its end. */
  get isWhole(): boolean {
    return this.#isWhole
  }

  /** Reads no further. What was read is handed in. */
  stop(): void {
    this.#isStopped = true
    this.#onStop()
    if (this.#held.length > 0) this.#awaited?.wake()
  }

  async #run(): Promise<void> {
    const writing = this.#write()
    writing.catch(() => this.stop())
    let failure: Error | undefined
    const tasks = this.#parts.tasks[Symbol.asyncIterator]()
    try {
      for (;;) {
        const next = await this.#next(tasks)
        if (next.done) break
        this.#held.push(next.value)
        if (this.#held.length >= (this.#awaited?.count ?? Number.POSITIVE_INFINITY)) {
          this.#awaited?.wake()
        }
        // The writer is behind: it sets the pace.
        if (this.#held.length >= this.#ahead) await this.#taken(writing)
      }
      // A source that gives nothing any more, and never ends, is not waited for.
      if (this.#isStopped) watch(tasks.return?.(), () => undefined)
      this.#isWhole = !this.#isStopped
    } catch (error) {
      failure = asError(error)
    }
    this.#isRead = true
    this.#awaited?.wake()
    await writing
    if (failure) throw failure
  }

  /** The next task of the source; the end, as soon as nothing more is to be read. */
  #next(tasks: AsyncIterator<NewTask>): Promise<IteratorResult<NewTask, undefined>> {
    if (this.#isStopped) return Promise.resolve({ done: true, value: undefined })
    return new Promise((resolve, reject) => {
      let timer: Timer | undefined
      const settle = (act: () => void): void => {
        timer?.clear()
        this.#onStop = () => undefined
        act()
      }
      // What is about to come is still handed in.
      this.#onStop = () => {
        timer ??= after(GRACE, () => settle(() => resolve({ done: true, value: undefined })))
      }
      tasks.next().then(
        (next) => settle(() => resolve(next)),
        (error) => settle(() => reject(error)),
      )
    })
  }

  async #taken(writing: Promise<void>): Promise<void> {
    while (this.#held.length >= this.#ahead && !this.#isStopped) {
      await Promise.race([writing, sleep(2)])
    }
  }

  async #write(): Promise<void> {
    const { wait = 0 } = this.#parts
    const least = wait > 0 ? this.#bundle : 1
    for (;;) {
      if (this.#held.length < least && !this.#isRead) {
        await this.#holds(1)
        // A little later there may be many: the first one hardly waits, and a million go by the thousand.
        if (!this.#isStopped) await within(Math.max(1, wait), this.#holds(this.#bundle))
      }
      if (this.#held.length === 0) {
        if (this.#isRead) return
        continue
      }
      const room = this.#isStopped ? 0 : await this.#parts.room()
      if (room === 0) this.stop()
      // What was read before the end is handed in all the same.
      const batch = this.#held.splice(0, Math.min(this.#bundle, room || this.#bundle))
      await this.#parts.add(batch)
    }
  }

  /** Resolves when so many are held, or no more will be. Who waits anew has given up the wait before. */
  #holds(count: number): Promise<void> {
    if (this.#held.length >= count || this.#isRead) return Promise.resolve()
    return new Promise((resolve) => {
      this.#awaited = { count, wake: resolve }
    })
  }
}

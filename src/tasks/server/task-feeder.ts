/** A source on its way into the store, no faster than it is worked off. */
import { asError } from '../../core/errors.ts'
import { after, resolveWithin, sleep, type Timer } from '../../core/time.ts'
import { catchRejection } from '../../core/user-functions.ts'
import type { NewTask } from '../model/task.ts'

/** How long a source that is stopped may take for the task that it was asked for, in ms. */
const STOP_GRACE_MS = 1_000

/** Tasks of one transaction. */
const MAX_BUNDLE_SIZE = 1_000

export interface TaskFeederParts {
  readonly tasks: AsyncIterable<NewTask>
  /** Takes them in. */
  add(tasks: readonly NewTask[]): Promise<void>
  /** Resolves when there is room for more, with how many; with 0 where there never will be. */
  waitForCapacity(): Promise<number>
  /** Tasks that are read ahead of those that were handed in. @default 1000, which is also the most */
  readonly readAhead?: number
  /** Tasks of one `add`, at most. @default `ahead` */
  readonly bundleSize?: number
  /** Ms that the first of a bundle waits for the others. @default 0: what there is goes */
  readonly bundleWaitMs?: number
}

export class TaskFeeder {
  /** Resolves when all is in the store; rejects with what the source threw, after all before that is in. */
  readonly done: Promise<void>
  readonly #parts: TaskFeederParts
  readonly #readAhead: number
  readonly #bundleSize: number
  #isStopped = false
  #onStop: () => void = () => undefined
  #buffer: NewTask[] = []
  /** The writer, who waits until so many are held. */
  #writerWait: { readonly count: number; readonly wake: () => void } | undefined
  #isReadingDone = false
  #isSourceComplete = false

  constructor(parts: TaskFeederParts) {
    this.#parts = parts
    this.#readAhead = Math.min(MAX_BUNDLE_SIZE, parts.readAhead ?? MAX_BUNDLE_SIZE)
    this.#bundleSize = Math.min(this.#readAhead, parts.bundleSize ?? MAX_BUNDLE_SIZE)
    this.done = this.#run()
    // Who waits for it hears of it; until then it is no unhandled rejection.
    this.done.catch(() => {})
  }

  /** Whether the source was read to its end. */
  get isSourceComplete(): boolean {
    return this.#isSourceComplete
  }

  /** Reads no further. What was read is handed in. */
  stop(): void {
    this.#isStopped = true
    this.#onStop()
    if (this.#buffer.length > 0) this.#writerWait?.wake()
  }

  async #run(): Promise<void> {
    const writing = this.#write()
    writing.catch(() => this.stop())
    let failure: Error | undefined
    const tasks = this.#parts.tasks[Symbol.asyncIterator]()
    try {
      for (;;) {
        const next = await this.#readNext(tasks)
        if (next.done) break
        this.#buffer.push(next.value)
        if (this.#buffer.length >= (this.#writerWait?.count ?? Number.POSITIVE_INFINITY)) {
          this.#writerWait?.wake()
        }
        // The writer is behind: it sets the pace.
        if (this.#buffer.length >= this.#readAhead) await this.#waitForBufferSpace(writing)
      }
      // A source that gives nothing any more, and never ends, is not waited for.
      if (this.#isStopped) catchRejection(tasks.return?.(), () => undefined)
      this.#isSourceComplete = !this.#isStopped
    } catch (error) {
      failure = asError(error)
    }
    this.#isReadingDone = true
    this.#writerWait?.wake()
    await writing
    if (failure) throw failure
  }

  /** The next task of the source; the end, as soon as nothing more is to be read. */
  #readNext(tasks: AsyncIterator<NewTask>): Promise<IteratorResult<NewTask, undefined>> {
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
        timer ??= after(STOP_GRACE_MS, () =>
          settle(() => resolve({ done: true, value: undefined })),
        )
      }
      tasks.next().then(
        (next) => settle(() => resolve(next)),
        (error) => settle(() => reject(error)),
      )
    })
  }

  async #waitForBufferSpace(writing: Promise<void>): Promise<void> {
    while (this.#buffer.length >= this.#readAhead && !this.#isStopped) {
      await Promise.race([writing, sleep(2)])
    }
  }

  async #write(): Promise<void> {
    const { bundleWaitMs: wait = 0 } = this.#parts
    const least = wait > 0 ? this.#bundleSize : 1
    for (;;) {
      if (this.#buffer.length < least && !this.#isReadingDone) {
        await this.#waitForBuffered(1)
        // A little later there may be many: the first one hardly waits, and a million go by the thousand.
        if (!this.#isStopped)
          await resolveWithin(Math.max(1, wait), this.#waitForBuffered(this.#bundleSize))
      }
      if (this.#buffer.length === 0) {
        if (this.#isReadingDone) return
        continue
      }
      const room = this.#isStopped ? 0 : await this.#parts.waitForCapacity()
      if (room === 0) this.stop()
      // What was read before the end is handed in all the same.
      const batch = this.#buffer.splice(0, Math.min(this.#bundleSize, room || this.#bundleSize))
      await this.#parts.add(batch)
    }
  }

  /** Resolves when so many are held, or no more will be. Who waits anew has given up the wait before. */
  #waitForBuffered(count: number): Promise<void> {
    if (this.#buffer.length >= count || this.#isReadingDone) return Promise.resolve()
    return new Promise((resolve) => {
      this.#writerWait = { count, wake: resolve }
    })
  }
}

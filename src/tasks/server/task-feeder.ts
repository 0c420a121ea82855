/** Moves the tasks of a source into a store, in bundles, no faster than the store takes them. */
import { asError } from '../../core/errors.ts'
import { after, resolveWithin, sleep, type Timer } from '../../core/time.ts'
import { catchRejection } from '../../core/user-functions.ts'
import type { NewTask } from '../model/task.ts'

/** When the feeder is stopped, the source may still take this long for the task that it was asked for. In ms. */
const STOP_GRACE_MS = 1_000

/** Most tasks of one transaction. */
const MAX_BUNDLE_SIZE = 1_000

export interface TaskFeederParts {
  readonly tasks: AsyncIterable<NewTask>
  /** Stores tasks. */
  add(tasks: readonly NewTask[]): Promise<void>
  /** Resolves when more tasks may be added, with how many; with 0 if no more may ever be. */
  waitForCapacity(): Promise<number>
  /** Most tasks that were read and are not added yet, up to 1000. @default 1000 */
  readonly readAhead?: number
  /** Most tasks of one `add`. @default `readAhead` */
  readonly bundleSize?: number
  /** How long the first task of a bundle waits for others, in ms. @default 0 */
  readonly bundleWaitMs?: number
}

export class TaskFeeder {
  /** Resolves when all tasks are added; rejects with what the source threw, after all tasks before that are added. */
  readonly done: Promise<void>
  readonly #parts: TaskFeederParts
  readonly #readAhead: number
  readonly #bundleSize: number
  #isStopped = false
  #onStop: () => void = () => undefined
  #buffer: NewTask[] = []
  /** The writer waits until the buffer has so many tasks. */
  #writerWait: { readonly count: number; readonly wake: () => void } | undefined
  #isReadingDone = false
  #isSourceComplete = false

  constructor(parts: TaskFeederParts) {
    this.#parts = parts
    this.#readAhead = Math.min(MAX_BUNDLE_SIZE, parts.readAhead ?? MAX_BUNDLE_SIZE)
    this.#bundleSize = Math.min(this.#readAhead, parts.bundleSize ?? MAX_BUNDLE_SIZE)
    this.done = this.#run()
    // A caller that awaits it later still gets the rejection.
    this.done.catch(() => {})
  }

  /** Whether the source was read to its end. */
  get isSourceComplete(): boolean {
    return this.#isSourceComplete
  }

  /** Reads no further. Tasks that were read are added. */
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
        // The writer is behind, so reading waits for it.
        if (this.#buffer.length >= this.#readAhead) await this.#waitForBufferSpace(writing)
      }
      // Not awaited: a stopped source may never end.
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

  /** The next task of the source. When the feeder is stopped, the end of the source. */
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
    const minBuffered = wait > 0 ? this.#bundleSize : 1
    for (;;) {
      if (this.#buffer.length < minBuffered && !this.#isReadingDone) {
        await this.#waitForBuffered(1)
        // A short wait lets the others come: a source of a million tasks is stored in bundles of a thousand.
        if (!this.#isStopped)
          await resolveWithin(Math.max(1, wait), this.#waitForBuffered(this.#bundleSize))
      }
      if (this.#buffer.length === 0) {
        if (this.#isReadingDone) return
        continue
      }
      const capacity = this.#isStopped ? 0 : await this.#parts.waitForCapacity()
      if (capacity === 0) this.stop()
      // Tasks that were read before the stop are added all the same.
      const size = Math.min(this.#bundleSize, capacity || this.#bundleSize)
      const batch = this.#buffer.splice(0, size)
      await this.#parts.add(batch)
    }
  }

  /** Resolves when the buffer has so many tasks, or no more will come. A new wait replaces the last one. */
  #waitForBuffered(count: number): Promise<void> {
    if (this.#buffer.length >= count || this.#isReadingDone) return Promise.resolve()
    return new Promise((resolve) => {
      this.#writerWait = { count, wake: resolve }
    })
  }
}

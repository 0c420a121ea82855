/** Outcomes as an iterable: those from its beginning on, at the pace of who reads. */
import type { TaskResult } from './result.ts'

/** Outcomes that may wait for who reads them. */
const MOST_UNREAD = 1_000

/** One who reads outcomes, at his own pace. */
export class Reader implements AsyncIterableIterator<TaskResult> {
  readonly #left: () => void
  #results: TaskResult[] = []
  #next = 0
  #ended: { readonly error: Error | undefined } | undefined
  #wake: (() => void) | undefined
  #room: (() => void) | undefined

  constructor(left: () => void) {
    this.#left = left
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  /** Resolves when there is room for more. */
  push(results: readonly TaskResult[]): Promise<void> | undefined {
    this.#results.push(...results)
    this.#wake?.()
    if (this.#results.length - this.#next < MOST_UNREAD) return undefined
    return new Promise((resolve) => {
      this.#room = resolve
    })
  }

  end(error: Error | undefined): void {
    this.#ended ??= { error }
    this.#wake?.()
    this.#room?.()
  }

  async next(): Promise<IteratorResult<TaskResult, undefined>> {
    for (;;) {
      if (this.#next < this.#results.length) {
        const value = this.#results[this.#next++] as TaskResult
        if (this.#next === this.#results.length) {
          this.#results = []
          this.#next = 0
          this.#room?.()
        }
        return { value, done: false }
      }
      if (this.#ended) {
        const { error } = this.#ended
        this.#ended = { error: undefined }
        this.#left()
        if (error) throw error
        return { value: undefined, done: true }
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
      this.#wake = undefined
    }
  }

  async return(): Promise<IteratorResult<TaskResult, undefined>> {
    this.end(undefined)
    this.#left()
    return { value: undefined, done: true }
  }
}

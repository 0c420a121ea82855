/** Outcomes as an iterable: those from its beginning on, at the pace of who reads. */
import type { TaskResult } from './result.ts'

/** Outcomes that may wait for who reads them. */
const MAX_UNREAD_RESULTS = 1_000

/** One who reads outcomes, at his own pace. */
export class TaskResultReader implements AsyncIterableIterator<TaskResult> {
  readonly #onClosed: () => void
  #results: TaskResult[] = []
  #nextIndex = 0
  #ended: { readonly error: Error | undefined } | undefined
  #wake: (() => void) | undefined
  #resumeWriter: (() => void) | undefined

  constructor(left: () => void) {
    this.#onClosed = left
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  /** Resolves when there is room for more. */
  push(results: readonly TaskResult[]): Promise<void> | undefined {
    this.#results.push(...results)
    this.#wake?.()
    if (this.#results.length - this.#nextIndex < MAX_UNREAD_RESULTS) return undefined
    return new Promise((resolve) => {
      this.#resumeWriter = resolve
    })
  }

  end(error: Error | undefined): void {
    this.#ended ??= { error }
    this.#wake?.()
    this.#resumeWriter?.()
  }

  async next(): Promise<IteratorResult<TaskResult, undefined>> {
    for (;;) {
      if (this.#nextIndex < this.#results.length) {
        const value = this.#results[this.#nextIndex++] as TaskResult
        if (this.#nextIndex === this.#results.length) {
          this.#results = []
          this.#nextIndex = 0
          this.#resumeWriter?.()
        }
        return { value, done: false }
      }
      if (this.#ended) {
        const { error } = this.#ended
        this.#ended = { error: undefined }
        this.#onClosed()
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
    this.#onClosed()
    return { value: undefined, done: true }
  }
}

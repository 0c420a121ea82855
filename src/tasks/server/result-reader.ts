/** Iterates the results of tasks as they come. A reader that is slow slows the tasks down. */
import { type Deferred, deferred } from '../../core/deferred.ts'
import { Fifo } from '../../core/fifo.ts'
import type { TaskResult } from './result.ts'

/** Results that may wait for the reader before the tasks are held back. */
const MAX_UNREAD_RESULTS = 1_000

/** It gives the results that came after it was created. */
export class TaskResultReader implements AsyncIterableIterator<TaskResult> {
  readonly #onClosed: () => void
  readonly #results = new Fifo<TaskResult>()
  #ended: { readonly error: Error | undefined } | undefined
  /** Wakes the reader, which waits for a result. */
  #newResults: Deferred<void> | undefined
  /** Wakes the writer, which waits until all results are read. */
  #allRead: Deferred<void> | undefined

  constructor(onClosed: () => void) {
    this.#onClosed = onClosed
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  /** The promise, if there is one, is to be awaited before more is pushed. */
  push(results: readonly TaskResult[]): Promise<void> | undefined {
    for (const one of results) this.#results.push(one)
    this.#newResults?.resolve()
    if (this.#results.size < MAX_UNREAD_RESULTS) return undefined
    this.#allRead ??= deferred<void>()
    return this.#allRead.promise
  }

  end(error: Error | undefined): void {
    this.#ended ??= { error }
    this.#newResults?.resolve()
    this.#releaseWriter()
  }

  async next(): Promise<IteratorResult<TaskResult, undefined>> {
    for (;;) {
      const value = this.#results.shift()
      if (value !== undefined) {
        if (this.#results.size === 0) this.#releaseWriter()
        return { value, done: false }
      }
      if (this.#ended) {
        const { error } = this.#ended
        this.#ended = { error: undefined }
        this.#onClosed()
        if (error) throw error
        return { value: undefined, done: true }
      }
      this.#newResults ??= deferred<void>()
      await this.#newResults.promise
      this.#newResults = undefined
    }
  }

  async return(): Promise<IteratorResult<TaskResult, undefined>> {
    this.end(undefined)
    this.#onClosed()
    return { value: undefined, done: true }
  }

  #releaseWriter(): void {
    this.#allRead?.resolve()
    this.#allRead = undefined
  }
}

/** What becomes of the results of a run: the file of failures, the iterators, and the rows of a store in memory. */
import { resolve } from 'node:path'
import { describeError } from '../../core/errors.ts'
import type { SessionCore } from '../../session/session.ts'
import type { Store } from '../store/store.ts'
import { appendFailures } from './failure-file.ts'
import type { ClusterRunSettings } from './options.ts'
import { classifyOutcome, type TaskResult, toTaskEvent } from './result.ts'
import { TaskResultReader } from './result-reader.ts'

/** A store in memory drops finished tasks after so many. */
const MAX_FINISHED_ROWS = 5_000

export class RunResults {
  readonly #settings: ClusterRunSettings
  readonly #readers = new Set<TaskResultReader>()
  #end: { readonly error: Error | undefined } | undefined
  /** Since finished rows were last dropped. */
  #finishedCount = 0

  constructor(settings: ClusterRunSettings) {
    this.#settings = settings
  }

  /** Iterates the results that come from now on. */
  openReader(): TaskResultReader {
    const reader = new TaskResultReader(() => this.#readers.delete(reader))
    if (this.#end) reader.end(this.#end.error)
    else this.#readers.add(reader)
    return reader
  }

  /** Ends the iterators. */
  end(error: Error | undefined): void {
    this.#end ??= { error }
    for (const reader of this.#readers) reader.end(error)
  }

  /** Resolves when all readers have taken the results. */
  async deliver(results: readonly TaskResult[], session: SessionCore, store: Store): Promise<void> {
    for (const result of results) session.emitTask(() => toTaskEvent(result))
    await this.#appendFailures(results)
    await this.#dropFinished(store, results.length)
    await Promise.all([...this.#readers].map((reader) => reader.push(results)))
  }

  async #appendFailures(results: readonly TaskResult[]): Promise<void> {
    const { redirectFailures, kind, template, cwd, shell, env, onProblem } = this.#settings
    if (redirectFailures === undefined) return
    const failed = results.filter((one) => classifyOutcome(one) === 'failed')
    if (failed.length === 0) return
    try {
      const reading = { kind, template, cwd: resolve(cwd ?? '.'), shell, env }
      const notice = await appendFailures(redirectFailures, failed, reading)
      if (notice !== undefined) onProblem?.(notice)
    } catch (error) {
      onProblem?.(`failures: ${describeError(error)}`)
    }
  }

  /** In memory, finished tasks are dropped, for memory is limited. Failed ones stay: they decide whether the next group begins. */
  async #dropFinished(store: Store, count: number): Promise<void> {
    if (store.name !== ':memory:' || typeof this.#settings.store === 'object') return
    this.#finishedCount += count
    if (this.#finishedCount < MAX_FINISHED_ROWS) return
    this.#finishedCount = 0
    await store.delete({ where: ['state == succeeded'] })
    await store.delete({ where: ['state == retried'] })
  }
}

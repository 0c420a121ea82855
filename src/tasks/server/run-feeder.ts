/** The source of a run on its way into the store. */
import { resolve } from 'node:path'
import { describeError } from '../../core/errors.ts'
import { sleep } from '../../core/time.ts'
import { createTaskAcceptor } from '../model/accept-task.ts'
import type { NewTask } from '../model/task.ts'
import { readTasks, type TaskSource } from '../text/source.ts'
import { Backlog } from './backlog.ts'
import { type ClusterRunSettings, sourceOptions } from './options.ts'
import { isTransient, storeRetryDelay } from './store-retry.ts'
import { TaskFeeder } from './task-feeder.ts'
import type { TaskServer } from './task-server.ts'

export interface RunFeederParts {
  readonly source: TaskSource
  readonly settings: ClusterRunSettings
  readonly server: TaskServer
  /** Id of the batch that the tasks are put into. */
  readonly batch: string
}

export class RunFeeder {
  /** Resolves when all tasks are in the store; rejects with what the source throws, after all tasks before that are in. */
  readonly done: Promise<void>
  readonly #parts: RunFeederParts
  readonly #feeder: TaskFeeder
  /** Aborted by `stop`: ends the wait for a store that is busy. */
  readonly #stopping = new AbortController()
  #lineCount = 0
  #hasStanding = false

  constructor(parts: RunFeederParts) {
    const { source, settings, server, batch } = parts
    const { template, shell, env, backlog: maxWaiting } = settings
    const cwd = resolve(settings.cwd ?? '.')
    const { store, batches } = server
    this.#parts = parts
    const backlog = new Backlog({ store, batches, maxWaiting, server })
    this.#feeder = new TaskFeeder({
      tasks: readTasks(source, {
        ...sourceOptions({ ...settings, taskTimeout: undefined }),
        make: createTaskAcceptor({ template, cwd, shell, env, batch }),
        onLine: (line, isStanding) => {
          this.#lineCount = line
          this.#hasStanding ||= isStanding
        },
      }),
      add: (tasks) => this.#add(tasks),
      waitForCapacity: () => backlog.waitForCapacity(),
      readAhead: maxWaiting,
    })
    this.done = this.#feeder.done
  }

  /** Lines that were read. */
  get lineCount(): number {
    return this.#lineCount
  }

  /** Whether one of these lines was a directive for all lines after it, `# MANYHOST: group:4`. */
  get hasStanding(): boolean {
    return this.#hasStanding
  }

  /** Whether the source was read to its end. */
  get isSourceComplete(): boolean {
    return this.#feeder.isSourceComplete
  }

  /** Reads no further. */
  stop(): void {
    this.#stopping.abort()
    this.#feeder.stop()
  }

  /** A store that is full or busy for a while does not end the source. */
  async #add(tasks: readonly NewTask[]): Promise<void> {
    const { server, settings, batch } = this.#parts
    const { signal } = this.#stopping
    for (let failures = 0; ; failures++) {
      try {
        await server.store.add(tasks, { submitId: batch })
        return server.countSubmitted(tasks.length)
      } catch (error) {
        if (!isTransient(error) || server.state !== 'working' || signal.aborted) throw error
        settings.onProblem?.(describeError(error))
        await sleep(storeRetryDelay(failures), signal).catch(() => undefined)
      }
    }
  }
}

/** One run of a task server, from its source to the last outcome. It closes what it opens, however it ends. */

import { randomBytes } from 'node:crypto'
import { resolve } from 'node:path'
import { deferred } from '../../core/deferred.ts'
import { asError, describeError } from '../../core/errors.ts'
import type { SessionCore } from '../../session/session.ts'
import type { UnfinishedTasks } from '../store/batches.ts'
import type { StoreProgress } from '../store/counts.ts'
import type { TaskFilter } from '../store/filter.ts'
import { defaultStorePath, openStore } from '../store/open.ts'
import type { Store } from '../store/store.ts'
import type { TaskSource } from '../text/source.ts'
import { registerTaskMetrics } from './metrics.ts'
import { type ClusterRunSettings, RUNNERS_URL } from './options.ts'
import type { TaskCounts, TaskResult } from './result.ts'
import { RunFeeder } from './run-feeder.ts'
import { RunResults } from './run-results.ts'
import { RunnerService } from './runner-service.ts'
import { startTaskApiServer, type TaskApiServer } from './task-api-server.ts'
import { TaskServer } from './task-server.ts'

/** How long the services of a session of its own may take to end, in ms. */
const SESSION_CLOSE_TIMEOUT_MS = 5_000

const NO_COUNTS: TaskCounts = {
  submitted: 0,
  succeeded: 0,
  failed: 0,
  cancelled: 0,
  retried: 0,
  refused: 0,
}

/** What a run leaves in the store. */
export interface Remaining {
  /** Id of its batch: the `submit_id` of the tasks of its source. */
  readonly batch: string
  /** Tasks of its batch without a final outcome. */
  readonly waiting: number
  /** Whether its source was read to the end. If not, the first `lines` lines were read. */
  readonly isSourceWhole: boolean
  readonly lines: number
  /** Whether one of these lines was a directive for all lines after it, `# MANYHOST: group:4`: the rest needs it as well. */
  readonly hasStanding: boolean
}

export interface TaskRunParts {
  readonly source: TaskSource | undefined
  readonly settings: ClusterRunSettings
  /** A session with a provider, for a caller that gave none. */
  newSession(): SessionCore
}

/**
 * Tasks being served. Await it for the counts; iterate it for the results as they come. An iterator gives the results that
 * came after it was created, and a slow reader slows the tasks down.
 */
export class TaskRun implements PromiseLike<TaskCounts>, AsyncIterable<TaskResult> {
  readonly #parts: TaskRunParts
  /** Marks the tasks of its source, and those that it took over. */
  readonly #batch = randomBytes(8).toString('hex')
  readonly #ready = deferred<void>()
  readonly #done: Promise<TaskCounts>
  readonly #results: RunResults
  /** Close what was opened, in reverse order. */
  readonly #closers: (() => Promise<unknown> | unknown)[] = []
  #server: TaskServer | undefined
  #apiServer: TaskApiServer | undefined
  #feeder: RunFeeder | undefined
  #requestedEnd: 'drain' | 'stop' | undefined
  #remaining: Remaining | undefined

  constructor(parts: TaskRunParts) {
    this.#parts = parts
    this.#results = new RunResults(parts.settings)
    // A caller that does not await `ready` still learns of a failure by the run itself.
    this.ready.catch(() => {})
    this.#done = this.#run()
    this.#done.then(
      () => this.#results.end(undefined),
      (error) => {
        this.#ready.reject(asError(error))
        this.#results.end(asError(error))
      },
    )
  }

  /** Resolves when tasks are taken: the store is joined, and `listen` is listened on. Rejects if that fails. */
  get ready(): Promise<void> {
    return this.#ready.promise
  }

  // biome-ignore lint/suspicious/noThenProperty: a run is awaited, as the ancestor's functions block
  then<A = TaskCounts, B = never>(
    onDone?: ((counts: TaskCounts) => A | PromiseLike<A>) | null,
    onFailed?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#done.then(onDone, onFailed)
  }

  catch<B>(onFailed: (error: unknown) => B | PromiseLike<B>): Promise<TaskCounts | B> {
    return this.#done.catch(onFailed)
  }

  finally(onEnd: () => void): Promise<TaskCounts> {
    return this.#done.finally(onEnd)
  }

  [Symbol.asyncIterator](): AsyncIterator<TaskResult> {
    return this.#results.openReader()
  }

  /** The counts so far. */
  get counts(): TaskCounts {
    return this.#server?.counts ?? NO_COUNTS
  }

  /** Of all tasks that it works off, at most half a second old. */
  get progress(): StoreProgress | undefined {
    return this.#server?.progress
  }

  /** What it leaves in the store; undefined before it has ended. */
  get remaining(): Remaining | undefined {
    return this.#remaining
  }

  /** Unfinished tasks of other runs that no server runs. With `restart`, also those of running servers in this folder. */
  async otherBatches(): Promise<readonly UnfinishedTasks[]> {
    await this.ready
    const { store, batches } = this.#server as TaskServer
    const left = await store.otherBatches(this.#batch)
    const { restart, cwd } = this.#parts.settings
    const folder = resolve(cwd ?? '.')
    return left.filter(({ isSubmitted, isAlive, cwd: own }) =>
      isAlive ? restart && own === folder : !isSubmitted || !batches.includes(''),
    )
  }

  /** The address of its HTTP API, with `listen`. */
  get url(): string | undefined {
    return this.#apiServer?.url
  }

  /** What callers of that address must show; undefined: nothing. */
  get token(): string | undefined {
    return this.#apiServer?.token
  }

  /** Starts nothing more, lets what runs end, and ends. All other tasks stay in the store. */
  drain(): void {
    this.#requestedEnd ??= 'drain'
    this.#server?.drain()
  }

  /** Interrupts what runs, gives it back to the store, and ends. */
  stop(): void {
    this.#requestedEnd = 'stop'
    this.#server?.stop()
  }

  /** Cancels tasks, running ones too. Resolves with how many. @throws ManyhostError MANYHOST_INVALID_OPTION */
  async cancel(filter: TaskFilter): Promise<number> {
    await this.ready
    return (this.#server as TaskServer).cancel(filter)
  }

  async #run(): Promise<TaskCounts> {
    try {
      const server = await this.#startServer()
      this.#ready.resolve()
      await this.#serve(server)
      return server.counts
    } finally {
      for (const close of this.#closers.reverse()) {
        try {
          await close()
        } catch (error) {
          this.#reportProblem(`while the run ended: ${describeError(error)}`)
        }
      }
    }
  }

  /** Rejects with what the source threw, after all tasks before that have been worked off. */
  async #serve(server: TaskServer): Promise<void> {
    const feeder = this.#startFeeder(server)
    try {
      await server.done
    } finally {
      feeder?.stop()
    }
    await feeder?.done
  }

  async #startServer(): Promise<TaskServer> {
    const { settings } = this.#parts
    const store = await this.#openStore()
    const session = this.#openSession()
    const runnerService = this.#createRunnerService(session)
    const server = new TaskServer({
      session,
      store,
      settings,
      serving: { batch: this.#batch, isOpen: this.#isOpen },
      runnerService,
      onResults: (results) => this.#results.deliver(results, session, store),
    })
    this.#server = server
    // When it is counted what remains, the server has given back what it had.
    this.#closers.push(() => this.#recordRemaining(store))
    this.#closers.push(() => server.close())
    // In a session of the caller, which may serve requests alone, runners are started when a task first needs one.
    if (settings.session === undefined) server.runnersNeeded()
    await server.start()
    await this.#startApiServer(server)
    if (this.#requestedEnd) server[this.#requestedEnd]()
    this.#registerMetrics(server)
    this.#watchSignal()
    return server
  }

  /** Whether it runs also what others hand in: it goes on for ever, or listens, or has no source of its own. */
  get #isOpen(): boolean {
    const { source, settings } = this.#parts
    const { forever, listen, restart } = settings
    return forever || listen !== undefined || (source === undefined && !restart)
  }

  async #openStore(): Promise<Store> {
    const { store, inMemory } = this.#parts.settings
    if (typeof store === 'object') return store
    const opened = await openStore(inMemory ? ':memory:' : (store ?? defaultStorePath()))
    this.#closers.push(() => opened.close())
    return opened
  }

  #openSession(): SessionCore {
    const { settings, newSession } = this.#parts
    if (settings.session !== undefined) return settings.session
    const session = newSession()
    // In a session of its own, nobody else hears of runners that cannot be started.
    session.on('error', (error) => this.#reportProblem(describeError(error)))
    this.#closers.push(() => session.close({ timeout: SESSION_CLOSE_TIMEOUT_MS }))
    return session
  }

  #createRunnerService(session: SessionCore): RunnerService {
    const { settings } = this.#parts
    const token = randomBytes(24).toString('hex')
    const service = new RunnerService(settings.url ?? RUNNERS_URL, session, settings, token)
    // A session of its own removes all its services when it is closed.
    if (settings.session !== undefined) this.#closers.push(() => service.close())
    return service
  }

  async #startApiServer(server: TaskServer): Promise<void> {
    const { listen } = this.#parts.settings
    if (!listen) return
    const apiServer = await startTaskApiServer(server, listen)
    this.#apiServer = apiServer
    this.#closers.push(() => apiServer.close())
  }

  #registerMetrics(server: TaskServer): void {
    const { registry } = this.#parts.settings
    if (registry) this.#closers.push(registerTaskMetrics(registry, server))
  }

  #watchSignal(): void {
    const { signal } = this.#parts.settings
    if (!signal) return
    const stop = (): void => this.stop()
    if (signal.aborted) stop()
    signal.addEventListener('abort', stop)
    this.#closers.push(() => signal.removeEventListener('abort', stop))
  }

  #startFeeder(server: TaskServer): RunFeeder | undefined {
    const { source, settings } = this.#parts
    if (source === undefined) {
      server.endSource()
      return undefined
    }
    const feeder = new RunFeeder({ source, settings, server, batch: this.#batch })
    this.#feeder = feeder
    feeder.done.then(
      () => server.endSource(),
      (error) => {
        this.#reportProblem(describeError(error))
        server.endSource()
      },
    )
    return feeder
  }

  async #recordRemaining(store: Store): Promise<void> {
    const groups = await store.groups((this.#server as TaskServer).maxAttempts, [this.#batch])
    const feeder = this.#feeder
    this.#remaining = {
      batch: this.#batch,
      waiting: groups.reduce((sum, { remaining }) => sum + remaining, 0),
      isSourceWhole: feeder?.isSourceComplete ?? true,
      lines: feeder?.lineCount ?? 0,
      hasStanding: feeder?.hasStanding ?? false,
    }
  }

  #reportProblem(message: string): void {
    this.#parts.settings.onProblem?.(message)
  }
}

/** A server from its source to its last outcome: what it opens it closes, whatever becomes of it. */

import { randomBytes } from 'node:crypto'
import { resolve } from 'node:path'
import { asError, describeError, ManyhostError } from '../../core/errors.ts'
import { parseVirtualUrl } from '../../core/registry.ts'
import { sleep } from '../../core/time.ts'
import type { SessionCore } from '../../session/session.ts'
import { createTaskAcceptor } from '../model/accept-task.ts'
import type { UnfinishedTasks } from '../store/batches.ts'
import type { StoreProgress } from '../store/counts.ts'
import type { TaskFilter } from '../store/filter.ts'
import { defaultStorePath, openStore } from '../store/open.ts'
import type { Store } from '../store/store.ts'
import { readTasks, type TaskSource } from '../text/source.ts'
import { Backlog } from './backlog.ts'
import { appendFailures } from './failure-file.ts'
import { registerTaskMetrics } from './metrics.ts'
import { type ClusterRunSettings, RUNNERS_URL, sourceOptions } from './options.ts'
import { createRunnerSize, TaskProgressMonitor } from './progress-monitor.ts'
import { classifyOutcome, type TaskCounts, type TaskResult, toTaskEvent } from './result.ts'
import { TaskResultReader } from './result-reader.ts'
import { RunnerLoads } from './runner-loads.ts'
import { createRunnerServiceOptions } from './runner-service.ts'
import { startTaskApiServer, type TaskApiServer } from './task-api-server.ts'
import { TaskFeeder } from './task-feeder.ts'
import { TaskServer } from './task-server.ts'

/** Between two tries of a store that takes nothing in, in ms. */
const RETRY_DELAY_MS = 500

/** Rows of an in-memory store that are over, before they are thrown away. */
const MAX_FINISHED_ROWS = 5_000

/** What a run leaves in the store. */
export interface Remaining {
  /** Id of its batch: the `submit_id` of what came from its source. */
  readonly batch: string
  /** Tasks of its batch without a final outcome. */
  readonly waiting: number
  /** Whether its source was read to the end; else the first `lines` lines were. */
  readonly isSourceWhole: boolean
  readonly lines: number
  /** Whether one of these said something of all that follow, `# MANYHOST: group:4`: the rest needs it as well. */
  readonly hasStanding: boolean
}

export interface TaskRunParts {
  readonly source: TaskSource | undefined
  readonly settings: ClusterRunSettings
  /** A session with a provider, where the caller gave none. */
  newSession(): SessionCore
}

/**
 * Tasks being served. Await it for the counts, iterate it for the outcomes as they come (each iterator sees those from its
 * beginning on; who reads slowly slows the tasks down).
 */
export class TaskRun implements PromiseLike<TaskCounts>, AsyncIterable<TaskResult> {
  /** Resolves when tasks are taken: the store is joined, the address listened on. */
  readonly ready: Promise<void>
  readonly #parts: TaskRunParts
  readonly #done: Promise<TaskCounts>
  readonly #readers = new Set<TaskResultReader>()
  readonly #closers: (() => Promise<unknown> | unknown)[] = []
  #server: TaskServer | undefined
  #apiServer: TaskApiServer | undefined
  #requestedEnd: 'drain' | 'stop' | undefined
  #progressMonitor: TaskProgressMonitor | undefined
  #finishedCount = 0
  /** Marks the tasks of its source, and those that it took over. */
  readonly #batch = randomBytes(8).toString('hex')
  #remaining: Remaining | undefined
  #lineCount = 0
  #hasStanding = false
  #feeder: TaskFeeder | undefined

  constructor(parts: TaskRunParts) {
    this.#parts = parts
    let isReady!: () => void
    let isNot!: (error: Error) => void
    this.ready = new Promise((resolve, reject) => {
      isReady = resolve
      isNot = reject
    })
    this.ready.catch(() => {})
    this.#done = this.#run(isReady).catch((error) => {
      isNot(asError(error))
      throw error
    })
    this.#done.then(
      () => this.#endReaders(undefined),
      (error) => this.#endReaders(asError(error)),
    )
  }

  // biome-ignore lint/suspicious/noThenProperty: to be awaited, as the ancestor's functions block
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
    const reader = new TaskResultReader(() => this.#readers.delete(reader))
    this.#readers.add(reader)
    this.#done.then(
      () => reader.end(undefined),
      (error) => reader.end(asError(error)),
    )
    return reader
  }

  /** So far. */
  get counts(): TaskCounts {
    return (
      this.#server?.counts ?? {
        submitted: 0,
        succeeded: 0,
        failed: 0,
        cancelled: 0,
        retried: 0,
        refused: 0,
      }
    )
  }

  /** Of all that it works off, at most half a second old. */
  get progress(): StoreProgress | undefined {
    return this.#progressMonitor?.progress
  }

  /** What it leaves in the store; known when it has ended. */
  get remaining(): Remaining | undefined {
    return this.#remaining
  }

  /** What other runs have left, and nobody works off; with `restart` also what living ones work off in its folder. */
  async leftBeside(): Promise<readonly UnfinishedTasks[]> {
    await this.ready
    const { store, batches } = this.#server as TaskServer
    const left = await store.otherBatches(this.#batch)
    const { restart, cwd } = this.#parts.settings
    const folder = resolve(cwd ?? '.')
    return left.filter(({ isSubmitted, isAlive, cwd: own }) =>
      isAlive ? restart && own === folder : !isSubmitted || !batches.includes(''),
    )
  }

  /** Where it listens, with `listen`. */
  get url(): string | undefined {
    return this.#apiServer?.url
  }

  /** What `listen` asks callers for. */
  get token(): string | undefined {
    return this.#apiServer?.token
  }

  /** Starts nothing more, lets what runs end, and ends. What is left stays in the store. */
  drain(): void {
    this.#requestedEnd ??= 'drain'
    this.#server?.drain()
  }

  /** Interrupts what runs, gives it back to the store, and ends. */
  stop(): void {
    this.#requestedEnd = 'stop'
    this.#server?.stop()
  }

  /** Cancels tasks, running ones too. Answers how many. @throws ManyhostError MANYHOST_INVALID_OPTION */
  async cancel(filter: TaskFilter): Promise<number> {
    await this.ready
    return (this.#server as TaskServer).cancel(filter)
  }

  async #run(isReady: () => void): Promise<TaskCounts> {
    try {
      const server = await this.#startServer()
      isReady()
      const feed = this.#startFeeder(server)
      this.#feeder = feed
      let failure: unknown
      try {
        await server.done
      } finally {
        feed?.stop()
      }
      // A source that threw: what it gave before has been worked off.
      await feed?.done.catch((error) => {
        failure = error
      })
      if (failure) throw failure
      return server.counts
    } finally {
      for (const close of this.#closers.reverse()) {
        try {
          await close()
        } catch (error) {
          this.#reportProblem(`while it ended: ${describeError(error)}`)
        }
      }
    }
  }

  async #startServer(): Promise<TaskServer> {
    const { settings, newSession } = this.#parts
    const store = await this.#openStore()
    const url = settings.url ?? RUNNERS_URL
    const isOwn = settings.session === undefined
    const session = settings.session ?? newSession()
    if (isOwn) {
      // Nobody else hears of runners that cannot be started.
      session.on('error', (error) => this.#reportProblem(describeError(error)))
      this.#closers.push(() => session.close({ timeout: 5_000 }))
    }
    const { cwd, env, taskTimeout, signalWait, monitor } = settings
    const capture = settings.capture || settings.onOutput !== undefined
    const runners = parseVirtualUrl(url).href
    const known = (): boolean => session.clusters.some((one) => one.url === runners)
    const isKnown = known()
    const token = settings.token ?? (isKnown ? undefined : randomBytes(24).toString('hex'))
    const open = (): void => {
      if (known()) return
      session.startup(
        createRunnerServiceOptions(url, settings, token as string, server.shellExecutor.pickRunner),
      )
      if (!isOwn) this.#closers.push(() => session.remove(url, { timeout: 5_000 }))
      const wanted = createRunnerSize(settings, server, () => this.#progressMonitor?.progress)
      if (wanted) session.setSize(url, wanted)
    }
    const server: TaskServer = new TaskServer(
      {
        session,
        store,
        settings: { ...settings, url },
        // Who goes on for ever, or listens, or has no source of its own, is there for others.
        serving: {
          batch: this.#batch,
          isOpen:
            settings.forever ||
            settings.listen !== undefined ||
            (this.#parts.source === undefined && !settings.restart),
        },
        ensureRunnerService: open,
        onResults: (results) => {
          for (const result of results) session.emitTask(() => toTaskEvent(result))
          return this.#handleResults(results, store)
        },
      },
      new RunnerLoads(settings.numTasks),
      {
        // Each task has its own.
        template: '{}',
        // A task that wants its output kept says so by its tag: only the server knows.
        capture: capture || store.name !== ':memory:',
        ...(cwd !== undefined && { cwd }),
        ...(Object.keys(env).length > 0 && { env }),
        ...(taskTimeout > 0 && { timeout: taskTimeout }),
        signalWait,
        monitor,
        bundleSize: settings.bundleSize,
        bundleWait: 20,
      },
      token,
    )
    this.#server = server
    // Done after the server has given back what it held.
    this.#closers.push(() => this.#recordRemaining(store))
    this.#closers.push(() => server.close())
    // Those of a session that somebody else has, and that may serve requests alone, wait for the first need.
    if (isOwn) open()
    await server.start()
    const prospect = new TaskProgressMonitor(server)
    this.#progressMonitor = prospect
    this.#closers.push(() => prospect.close())
    if (settings.listen) {
      this.#apiServer = await startTaskApiServer(server, settings.listen)
      const door = this.#apiServer
      this.#closers.push(() => door.close())
    }
    if (this.#requestedEnd) server[this.#requestedEnd]()
    const { signal, registry } = settings
    if (registry) {
      const watched = () => ({
        counts: this.counts,
        progress: this.progress,
        claimedCount: server.claimedCount,
      })
      this.#closers.push(registerTaskMetrics(registry, watched))
    }
    if (signal) {
      const stop = (): void => this.stop()
      if (signal.aborted) stop()
      signal.addEventListener('abort', stop)
      this.#closers.push(() => signal.removeEventListener('abort', stop))
    }
    return server
  }

  async #openStore(): Promise<Store> {
    const { store, inMemory } = this.#parts.settings
    if (typeof store === 'object') return store
    const opened = await openStore(inMemory ? ':memory:' : (store ?? defaultStorePath()))
    this.#closers.push(() => opened.close())
    return opened
  }

  async #recordRemaining(store: Store): Promise<void> {
    const groups = await store.groups((this.#server as TaskServer).maxAttempts, [this.#batch])
    const waiting = groups.reduce((sum, { remaining }) => sum + remaining, 0)
    const isSourceWhole = this.#feeder?.isSourceComplete ?? true
    const hasStanding = this.#hasStanding
    this.#remaining = {
      batch: this.#batch,
      waiting,
      isSourceWhole,
      lines: this.#lineCount,
      hasStanding,
    }
  }

  /** The folder of the tasks of its source. */
  get #cwd(): string {
    return resolve(this.#parts.settings.cwd ?? '.')
  }

  #startFeeder(server: TaskServer): TaskFeeder | undefined {
    const { source, settings } = this.#parts
    if (source === undefined) {
      server.endSource()
      return undefined
    }
    const submitId = this.#batch
    const { template, shell, env } = settings
    const cwd = this.#cwd
    const backlog = new Backlog({
      store: server.store,
      batches: server.batches,
      maxWaiting: settings.backlog,
      isWorking: () => server.state === 'working',
    })
    const feed = new TaskFeeder({
      tasks: readTasks(source, {
        ...sourceOptions({ ...settings, taskTimeout: undefined }),
        make: createTaskAcceptor({ template, cwd, shell, env, batch: this.#batch }),
        onLine: (line, isStanding) => {
          this.#lineCount = line
          this.#hasStanding ||= isStanding
        },
      }),
      add: async (tasks) => {
        await this.#add(server, tasks, submitId)
        server.countSubmitted(tasks.length)
      },
      waitForCapacity: () => backlog.waitForCapacity(),
      readAhead: settings.backlog,
    })
    feed.done.then(
      () => server.endSource(),
      (error) => {
        this.#reportProblem(describeError(error))
        server.endSource()
      },
    )
    return feed
  }

  /** A store that is full or busy for a while does not end a source. */
  async #add(...[server, tasks, submitId]: [TaskServer, Parameters<Store['add']>[0], string]) {
    for (;;) {
      try {
        return await server.add(tasks, submitId)
      } catch (error) {
        const isPassing = error instanceof ManyhostError && error.retryable
        if (!isPassing || server.state !== 'working') throw error
        this.#reportProblem(describeError(error))
        await sleep(RETRY_DELAY_MS)
      }
    }
  }

  async #handleResults(results: readonly TaskResult[], store: Store): Promise<void> {
    const { redirectFailures, kind, template, shell, env } = this.#parts.settings
    const failed = results.filter((one) => classifyOutcome(one) === 'failed')
    if (redirectFailures !== undefined && failed.length > 0) {
      try {
        const cwd = this.#cwd
        const reading = { kind, template, cwd, shell, env }
        const other = await appendFailures(redirectFailures, failed, reading)
        if (other !== undefined) this.#reportProblem(other)
      } catch (error) {
        this.#reportProblem(`failures: ${describeError(error)}`)
      }
    }
    await this.#deleteFinished(store, results.length)
    await Promise.all([...this.#readers].map((reader) => reader.push(results)))
  }

  /** In memory, what is over is not kept: memory is for what is to come. Failures stay, for groups stand on them. */
  async #deleteFinished(store: Store, count: number): Promise<void> {
    if (store.name !== ':memory:' || typeof this.#parts.settings.store === 'object') return
    this.#finishedCount += count
    if (this.#finishedCount < MAX_FINISHED_ROWS) return
    this.#finishedCount = 0
    await store.delete({ where: ['state == succeeded'] })
    await store.delete({ where: ['state == retried'] })
  }

  #endReaders(error: Error | undefined): void {
    for (const reader of this.#readers) reader.end(error)
  }

  #reportProblem(message: string): void {
    this.#parts.settings.onProblem?.(message)
  }
}

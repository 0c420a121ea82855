/**
 * Works off a store of tasks: claims them, hands them to who carries them, and keeps what became of each. It knows tasks in
 * their thousands at most, however many there are.
 */

import { resolve } from 'node:path'
import type { Client } from '../../client/client.ts'
import { asError, describeError, ManyhostError } from '../../core/errors.ts'
import { parseVirtualUrl } from '../../core/registry.ts'
import { every, sleep } from '../../core/time.ts'
import type { SessionCore } from '../../session/session.ts'
import { createTaskAcceptor } from '../model/accept-task.ts'
import type { NewTask, Task, TaskOutcome } from '../model/task.ts'
import type { OutputStream } from '../runner/protocol.ts'
import type { TaskFilter } from '../store/filter.ts'
import type { ServedTasks } from '../store/servers.ts'
import type { Store } from '../store/store.ts'
import { Cancellations } from './cancellations.ts'
import { ClaimScheduler } from './claim-scheduler.ts'
import { ClaimedTasks } from './claimed-tasks.ts'
import type { TaskExecutor, TaskSink } from './executor.ts'
import type { TaskServeSettings } from './options.ts'
import { OutcomeWriter } from './outcome-writer.ts'
import { TaskReaper } from './reaper.ts'
import {
  type CompletedAttempt,
  defaultOutputsFolder,
  describeBlockedGroup,
  type TaskCounts,
  type TaskResult,
} from './result.ts'
import type { RunnerLoads } from './runner-loads.ts'
import { ShellExecutor } from './shell-executor.ts'
import { TaskCounters } from './task-counters.ts'
import { TaskOutputs } from './task-outputs.ts'
import { TaskRouter } from './task-router.ts'
import { TaskServerLease } from './task-server-lease.ts'

export interface TaskServerParts {
  readonly session: SessionCore
  readonly store: Store
  readonly settings: TaskServeSettings
  /** What is its own; open: it also runs what is handed in for whoever serves the store. */
  readonly serving: ServedTasks
  /** Sees to it that there is a service for shell tasks. */
  ensureRunnerService(): void
  /** Hears of each outcome. Nothing more is claimed while its promise is open. */
  onResults(results: readonly TaskResult[]): Promise<void>
}

type TaskServerState = 'working' | 'draining' | 'ended'

export class TaskServer implements TaskSink {
  /** Resolves when all is done, or it was told to drain or stop. Rejects with what keeps it from going on. */
  readonly done: Promise<void>
  readonly store: Store
  readonly shellExecutor: ShellExecutor
  /** Its own batch, and, where it is open, that of all tasks that have none. */
  readonly batches: readonly string[]
  /** Makes of a task that is handed in through this server what is stored of it. */
  readonly accept: (task: NewTask) => NewTask | Promise<NewTask>
  readonly #settings: TaskServeSettings
  readonly #parts: TaskServerParts
  readonly #client: Client
  readonly #outcomeWriter: OutcomeWriter
  readonly #outputs: TaskOutputs
  readonly #claimedTasks = new ClaimedTasks()
  readonly #router: TaskRouter
  readonly #reaper: TaskReaper
  readonly #claimScheduler: ClaimScheduler
  readonly #counters: TaskCounters
  readonly #cancellations: Cancellations
  #lease: TaskServerLease | undefined
  #state: TaskServerState = 'working'
  #isSourceOpen = true
  #isWorking = false
  #isWorkRequested = false
  /** Ends its listening and looking. */
  readonly #disposers: (() => void)[] = []
  #finish!: () => void
  #fail!: (error: Error) => void
  #lastProblem = ''
  #blockedGroup = -1
  /** Who reads outcomes slower than they come. */
  #resultsHandled: Promise<void> | undefined

  constructor(
    parts: TaskServerParts,
    books: RunnerLoads,
    bundle: ConstructorParameters<typeof ShellExecutor>[0]['bundleOptions'],
    token: string | undefined,
  ) {
    const { session, store, settings, serving } = parts
    this.#parts = parts
    this.batches = serving.isOpen ? [serving.batch, ''] : [serving.batch]
    this.accept = createTaskAcceptor({ template: settings.template, shell: settings.shell })
    this.#settings = settings
    this.store = store
    this.#client = session.client()
    const url = settings.url as string
    const runnersUrl = parseVirtualUrl(url).href
    this.shellExecutor = new ShellExecutor(
      {
        url,
        token,
        client: this.#client,
        cluster: () => session.clusters.find((one) => one.url === runnersUrl),
        ensureRunnerService: parts.ensureRunnerService,
        runnerLoads: books,
        bundleOptions: bundle,
        bundleSize: settings.bundleSize,
        priority: settings.priority,
      },
      this,
    )
    this.#outputs = new TaskOutputs({
      folder: settings.outputs ?? defaultOutputsFolder(store),
      capture: settings.capture,
      onOutput: settings.onOutput,
      onProblem: (message) => this.reportProblem(message),
    })
    this.#outcomeWriter = new OutcomeWriter({
      store,
      batchSize: settings.bundleSize,
      maxAttempts: this.maxAttempts,
      waitMs: settings.bundleWait,
      countRunning: () => this.#claimedTasks.runningCount,
      outputs: this.#outputs,
      mayHaveOutput: settings.onOutput !== undefined || settings.monitor,
      onStored: (all, refused) => this.#handleStoredOutcomes(all, refused),
      reportProblem: (message) => this.reportProblem(message),
      onFailed: (error) => this.fail(error),
    })
    this.#router = new TaskRouter(
      {
        session,
        shellExecutor: this.shellExecutor,
        runnersUrl,
        priority: settings.priority,
        timeoutMs: settings.taskTimeout,
        isCaptured: (task) => this.#outputs.isCaptured(task) || settings.onOutput !== undefined,
      },
      this,
    )
    this.#counters = new TaskCounters(this.maxAttempts)
    const self = () => ({ id: this.id, host: this.#lease?.host ?? '' })
    this.#cancellations = new Cancellations({ store, serving, batches: this.batches, self })
    this.#claimScheduler = new ClaimScheduler({
      store,
      bundleSize: settings.bundleSize,
      retry: () => this.#requestWork(),
      reportProblem: (message) => this.reportProblem(message),
    })
    this.#reaper = new TaskReaper({
      store,
      held: this.#claimedTasks,
      self,
      reportProblem: (message) => this.reportProblem(message),
    })
    const offInstance = session.on('instance', ({ service, instance, state }) => {
      if (state === 'ready') this.capacityChanged()
      if (service !== runnersUrl || (state !== 'stopped' && state !== 'failed')) return
      books.removeRunner(instance)
      if (settings.confirm && this.#lease)
        this.#reaper.disconnectRunner(instance, state === 'failed')
    })
    this.#disposers.push(offInstance)
    this.done = new Promise((finish, fail) => {
      this.#finish = finish
      this.#fail = fail
    })
    this.done.catch(() => {})
  }

  /** Joins the store, and begins. */
  async start(): Promise<void> {
    const { poll, evictAfter } = this.#settings
    const { serving } = this.#parts
    const life = await TaskServerLease.acquire({
      store: this.store,
      serving,
      leaseMs: evictAfter,
      onEvicted: () => this.#handleEviction(),
      onRecovered: (tasks) => {
        this.reportProblem(`${tasks} tasks of servers that are gone are in the queue again`)
        if (this.#lease)
          this.#adoptTasks().catch((error) => this.reportProblem(describeError(error)))
      },
      reportProblem: (message) => this.reportProblem(message),
    })
    await this.#adoptTasks()
    this.#lease = life
    const timer = every(poll, () => {
      this.#cancellations.mayExist = true
      this.#expectNewTasks()
      void this.#reaper.checkRunning()
    })
    this.#disposers.push(
      () => timer.clear(),
      () => this.#reaper.close(),
      this.store.onAdded(() => this.#expectNewTasks()),
    )
    this.#expectNewTasks()
  }

  /** Takes over what others have left of this folder, where that is asked for. */
  async #adoptTasks(): Promise<void> {
    const { restart, cwd } = this.#settings
    if (!restart) return
    const { batch } = this.#parts.serving
    const { maxAttempts: attempts, store } = this
    await store.adopt({ batch, cwd: resolve(cwd ?? '.'), attempts })
  }

  /** Id in the store. */
  get id(): string {
    return this.#lease?.id ?? ''
  }

  get state(): TaskServerState {
    return this.#state
  }

  get counts(): TaskCounts {
    return this.#counters.counts
  }

  /** Tasks that it holds. */
  get claimedCount(): number {
    return this.#claimedTasks.size
  }

  get maxAttempts(): number {
    return this.#settings.maxRetries + 1
  }

  /** Whatever is handed in through this server. */
  async add(tasks: readonly NewTask[], submitId?: string): Promise<string[]> {
    return this.store.add(tasks, submitId === undefined ? {} : { submitId })
  }

  /** Counts tasks of the source. */
  countSubmitted(count: number): void {
    this.#counters.addSubmitted(count)
  }

  /** Nothing more will come: it ends when nothing is left. */
  endSource(): void {
    this.#isSourceOpen = false
    this.#expectNewTasks()
  }

  /** Starts nothing more; what runs ends in its time. */
  drain(): void {
    if (this.#state !== 'working') return
    this.#state = 'draining'
    this.#expectNewTasks()
  }

  /** Drains, and ends what runs: it goes back to the queue. */
  stop(): void {
    this.drain()
    this.#router.stop()
    this.#outputs.close()
  }

  /** Cancels tasks, running ones too. Answers how many. */
  async cancel(filter: TaskFilter): Promise<number> {
    const count = await this.store.cancel(filter)
    if (count > 0) {
      await this.#reaper.checkRunning(0)
      this.#cancellations.mayExist = true
      this.#expectNewTasks()
    }
    return count
  }

  /** Leaves the store. To be called when `done` has settled. */
  async close(): Promise<void> {
    this.#state = 'ended'
    this.#claimScheduler.close()
    for (const off of this.#disposers.splice(0)) off()
    this.stop()
    // What is stopped says so; who does not has lost its claim by `leave`.
    for (let i = 0; i < 400 && this.#claimedTasks.runningCount > 0; i++) await sleep(5)
    await this.#outcomeWriter.flush()
    this.#outcomeWriter.close()
    try {
      await this.#lease?.release()
    } finally {
      await this.#client.close()
    }
  }

  // What carriers say.

  taskSettled(task: Task, outcome: TaskOutcome, message: string | undefined): void {
    this.#outcomeWriter.addOutcome({ task, outcome, message })
  }

  taskReturned(task: Task): void {
    this.#outputs.discard(task)
    this.#claimedTasks.markReturned([task])
    this.#requestWork()
  }

  taskOutput(task: Task, stream: OutputStream, chunk: Uint8Array): Promise<void> {
    return this.#outputs.write(task, stream, chunk)
  }

  tasksConfirmed(clientId: string, clientHost: string, tasks: readonly Task[]): void {
    if (this.#settings.confirm) this.#reaper.scheduleConfirmation(clientId, clientHost, tasks)
  }

  capacityChanged(): void {
    this.#requestWork()
  }

  reportProblem(message: string): void {
    if (message === this.#lastProblem) return
    this.#lastProblem = message
    this.#settings.onProblem?.(message)
  }

  fail(error: Error): void {
    if (this.#state === 'ended') return
    this.#state = 'ended'
    this.#fail(error)
  }

  #expectNewTasks(): void {
    this.#claimScheduler.expectNewTasks()
    this.#requestWork()
  }

  #requestWork(): void {
    if (this.#isWorking) {
      this.#isWorkRequested = true
      return
    }
    if (!this.#lease) return
    this.#isWorking = true
    void this.#runWorkLoop()
  }

  async #runWorkLoop(): Promise<void> {
    try {
      do {
        this.#isWorkRequested = false
        await this.#releaseReturned()
        if (this.#cancellations.mayExist) await this.#reportCancelled()
        if (this.#state === 'working') this.#claimedTasks.dispatchWaiting()
        else this.#claimedTasks.markReturned(this.#claimedTasks.clearWaiting())
        if (this.#state === 'working' && (await this.#claimTasks())) this.#isWorkRequested = true
      } while (this.#isWorkRequested && this.#state !== 'ended')
      await this.#endIfDone()
    } catch (error) {
      const isPassing = error instanceof ManyhostError && error.retryable
      if (!isPassing) return this.fail(asError(error))
      this.reportProblem(describeError(error))
      await sleep(200)
      this.#isWorkRequested = true
    } finally {
      this.#isWorking = false
    }
    if (this.#isWorkRequested && this.#state !== 'ended') this.#requestWork()
  }

  /** Claims what can go on its way now. Answers whether there was something. */
  async #claimTasks(): Promise<boolean> {
    const carriers = this.#router.listExecutors()
    const asks = this.#claimScheduler.planClaims(
      carriers,
      this.#claimedTasks,
      this.#outcomeWriter.size,
    )
    if (asks.length === 0) return false
    await this.#resultsHandled
    this.#resultsHandled = undefined
    const { id: server, maxAttempts: attempts, batches } = this
    const { eager } = this.#settings
    let count = 0
    for (const ask of asks) {
      const tasks = await this.#claimScheduler.claim({ ...ask, server, attempts, eager, batches })
      const takers = new Set<TaskExecutor>()
      for (const claimed of tasks) {
        const task = this.#withDefaultTemplate(claimed)
        const carrier = this.#router.executorFor(task)
        this.#claimedTasks.addWaiting(task, carrier)
        takers.add(carrier)
      }
      this.#claimScheduler.recordClaim(ask, tasks.length, takers, carriers)
      count += tasks.length
    }
    return count > 0
  }

  /**
   * Tasks of an older version were stored without their template: what `restart` is given is for these. All others have what
   * they were stored with.
   */
  #withDefaultTemplate(task: Task): Task {
    const { restart, template } = this.#settings
    const { cwd, request, command } = task
    const isKnown = cwd !== null || request !== null || command !== null || task.template !== null
    return restart && template !== '{}' && !isKnown ? { ...task, template } : task
  }

  async #releaseReturned(): Promise<void> {
    const tasks = this.#claimedTasks.listReturned()
    if (tasks.length === 0) return
    const count = await this.store.release(tasks)
    this.#claimedTasks.removeReturned(tasks)
    if (count === tasks.length) return
    const cancelled = await this.#cancellations.filterCancelled(tasks)
    if (cancelled.length > 0) await this.#reportResults(this.#counters.addCancelled(cancelled))
  }

  /** What was cancelled while nobody had claimed it. Answers whether there was something. */
  async #reportCancelled(): Promise<boolean> {
    let isSome = false
    for await (const tasks of this.#cancellations.listUnreported()) {
      await this.#reportResults(this.#counters.addCancelled(tasks))
      isSome = true
    }
    return isSome
  }

  async #reportResults(results: readonly TaskResult[]): Promise<void> {
    await this.#resultsHandled
    this.#resultsHandled = this.#parts.onResults(results)
  }

  async #handleStoredOutcomes(
    all: readonly CompletedAttempt[],
    refused: ReadonlyMap<string, string>,
  ): Promise<void> {
    for (const { task } of all) this.#claimedTasks.removeRunning(task.id, task.fence)
    const late = all.filter(({ task }) => refused.get(task.id) === 'evicted')
    const cancelled =
      late.length > 0 ? await this.#cancellations.filterCancelled(late.map(({ task }) => task)) : []
    const ids = new Set(cancelled.map(({ id }) => id))
    const rest = ids.size > 0 ? all.filter(({ task }) => !ids.has(task.id)) : all
    const results = [
      ...this.#counters.addCompleted(rest, refused),
      ...this.#counters.addCancelled(cancelled),
    ]
    this.#expectNewTasks()
    this.#resultsHandled = this.#parts.onResults(results)
  }

  #handleEviction(): void {
    this.#reaper.forgetRunners()
    for (const { task, executor: carrier } of this.#claimedTasks.listRunning()) carrier.cancel(task)
    this.#claimedTasks.markReturned(this.#claimedTasks.clearWaiting())
    this.#expectNewTasks()
  }

  async #endIfDone(): Promise<void> {
    if (this.#state === 'ended' || this.#isWorkRequested) return
    if (this.#claimedTasks.size > 0) return
    if (this.#state === 'draining') {
      await this.#reportCancelled()
      return this.#end()
    }
    if (!this.#claimScheduler.hasNothingToClaim) return
    const turn = await this.store.groupTurn(this.maxAttempts, this.batches)
    const isLast = !this.#settings.forever && !this.#isSourceOpen
    if (turn.is === 'blocked') {
      if (isLast)
        return this.fail(new ManyhostError('MANYHOST_GROUP_FAILED', describeBlockedGroup(turn)))
      if (this.#blockedGroup !== turn.group) this.reportProblem(describeBlockedGroup(turn))
      this.#blockedGroup = turn.group
      return
    }
    this.#blockedGroup = -1
    if (!isLast || turn.is !== 'done') return
    if (await this.#reportCancelled()) return this.#expectNewTasks()
    if (!this.#isWorkRequested && this.#claimedTasks.size === 0) this.#end()
  }

  #end(): void {
    this.#state = 'ended'
    this.#finish()
  }
}

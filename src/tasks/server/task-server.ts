/**
 * Works off a store of tasks: claims tasks, gives them to executors, and stores their outcomes. It holds at most some thousand
 * tasks, however many there are in the store.
 *
 *   store ── claim ──> ClaimedTasks ── TaskRouter ──> ShellExecutor, RequestExecutor
 *     ^                                                    │ TaskSink
 *     └── OutcomeWriter <── TaskOutputs <──────────────────┘
 */

import { resolve } from 'node:path'
import { deferred } from '../../core/deferred.ts'
import { asError, describeError, ManyhostError } from '../../core/errors.ts'
import type { InstanceEvent } from '../../core/events.ts'
import { after, every, now, sleep, type Timer } from '../../core/time.ts'
import { createTaskAcceptor } from '../model/accept-task.ts'
import type { NewTask, Task, TaskOutcome } from '../model/task.ts'
import type { OutputStream } from '../runner/protocol.ts'
import type { OutcomeRefusal } from '../store/complete-tasks.ts'
import type { StoreProgress } from '../store/counts.ts'
import type { TaskFilter } from '../store/filter.ts'
import type { Store } from '../store/store.ts'
import type { TaskSink } from './executor.ts'
import type { OutcomeSink } from './outcome-writer.ts'
import { createRunnerSize, TaskProgressMonitor } from './progress-monitor.ts'
import { type CompletedAttempt, describeBlockedGroup, type TaskCounts } from './result.ts'
import { isTransient, storeRetryDelay } from './store-retry.ts'
import {
  createTaskServerComponents,
  type TaskServerComponents,
  type TaskServerParts,
} from './task-server-components.ts'
import type { LeaseOwner } from './task-server-lease.ts'

export type TaskServerState = 'working' | 'draining' | 'ended'

/** Longest wait for executors that were stopped, at `close`: their tasks are lost to the server afterwards. In ms. */
const STOP_TIMEOUT_MS = 2_000
const STOP_POLL_INTERVAL_MS = 5

export class TaskServer implements TaskSink, OutcomeSink, LeaseOwner {
  readonly store: Store
  /** Completes a task that is handed in through this server: what it answers is stored. */
  readonly accept: (task: NewTask) => NewTask | Promise<NewTask>
  readonly #parts: TaskServerParts
  readonly #components: TaskServerComponents
  readonly #done = deferred<void>()
  #progressMonitor: TaskProgressMonitor | undefined
  #state: TaskServerState = 'working'
  /** Whether it may claim: it has joined the store. */
  #isStarted = false
  #isSourceOpen = true
  #isWorking = false
  #isWorkRequested = false
  /** Failures in a row of the store. */
  #storeFailures = 0
  /** Ends the wait of the work loop for a store that is busy. */
  #endStoreWait = (): void => undefined
  /** The next look at the store that the claim scheduler asked for. */
  #retry: { readonly at: number; readonly timer: Timer } | undefined
  /** End its timers and listeners. */
  readonly #disposers: (() => void)[] = []
  /** The group whose failures were reported as holding back later groups; -1: none. */
  #blockedGroup = -1

  constructor(parts: TaskServerParts) {
    const { store, settings } = parts
    this.#parts = parts
    this.store = store
    this.accept = createTaskAcceptor({ template: settings.template, shell: settings.shell })
    this.#components = createTaskServerComponents(parts, this)
    // A caller that does not await `done` is told of a failure by other means.
    this.#done.promise.catch(() => {})
  }

  /** Joins the store, and begins. */
  async start(): Promise<void> {
    const { session } = this.#parts
    this.#disposers.push(session.on('instance', (event) => this.#handleInstance(event)))
    await this.#components.lease.acquire()
    await this.#adoptTasks()
    this.#isStarted = true
    const timer = every(this.#parts.settings.poll, () => {
      this.#components.cancellations.mayExist = true
      this.#expectNewTasks()
      void this.#components.reaper.checkRunning()
    })
    this.#progressMonitor = new TaskProgressMonitor(this)
    this.#disposers.push(
      () => timer.clear(),
      () => this.#retry?.timer.clear(),
      () => this.#components.reaper.close(),
      () => this.#progressMonitor?.close(),
      this.store.onAdded(() => this.#expectNewTasks()),
    )
    this.#expectNewTasks()
  }

  /** With `restart`: takes over the tasks of this folder that no living run works off. */
  async #adoptTasks(): Promise<void> {
    const { restart, cwd } = this.#parts.settings
    if (!restart) return
    const { batch } = this.#parts.serving
    await this.store.adopt({ batch, cwd: resolve(cwd ?? '.'), attempts: this.maxAttempts })
  }

  /** Resolves when all is done, or when it has drained or stopped. Rejects with what keeps it from going on. */
  get done(): Promise<void> {
    return this.#done.promise
  }

  get state(): TaskServerState {
    return this.#state
  }

  get counts(): TaskCounts {
    return this.#components.results.counts
  }

  /** Of all that it works off, at most half a second old. */
  get progress(): StoreProgress | undefined {
    return this.#progressMonitor?.progress
  }

  /** Tasks that it has claimed and that have no outcome. */
  get claimedCount(): number {
    return this.#components.claimed.size
  }

  /** How often a task is tried in all. */
  get maxAttempts(): number {
    return this.#components.maxAttempts
  }

  /** Its own batch; if it is open, also `''`, the batch of tasks that are in none. */
  get batches(): readonly string[] {
    return this.#components.batches
  }

  /** Counts tasks of the source. */
  countSubmitted(count: number): void {
    this.#components.results.addSubmitted(count)
  }

  /** The source has ended: the server ends when no task is left. */
  endSource(): void {
    this.#isSourceOpen = false
    this.#expectNewTasks()
  }

  /** Starts nothing more. What runs goes on to its end. */
  drain(): void {
    if (this.#state !== 'working') return
    this.#state = 'draining'
    this.#endStoreWait()
    this.#expectNewTasks()
  }

  /** Drains, and ends what runs, which goes back to the queue. */
  stop(): void {
    this.drain()
    this.#components.router.stop()
    this.#components.outputs.close()
  }

  /** Cancels tasks, running ones too. Resolves with how many. */
  async cancel(filter: TaskFilter): Promise<number> {
    const count = await this.store.cancel(filter)
    if (count > 0) {
      await this.#components.reaper.checkRunning(0)
      this.#components.cancellations.mayExist = true
      this.#expectNewTasks()
    }
    return count
  }

  /** Leaves the store. To be called when `done` has settled. */
  async close(): Promise<void> {
    this.#state = 'ended'
    this.#endStoreWait()
    for (const dispose of this.#disposers.splice(0)) dispose()
    this.stop()
    // Each stopped task is returned or has its outcome. A task that is late loses its claim when the lease is released.
    const deadline = now() + STOP_TIMEOUT_MS
    while (this.#components.claimed.runningCount > 0 && now() < deadline) {
      await sleep(STOP_POLL_INTERVAL_MS)
    }
    await this.#components.outcomes.flush()
    this.#components.outcomes.close()
    try {
      await this.#components.lease.release()
    } finally {
      await this.#components.client.close()
    }
  }

  // TaskSink: called by executors.

  taskSettled(task: Task, outcome: TaskOutcome, message: string | undefined): void {
    this.#components.outcomes.addOutcome({ task, outcome, message })
  }

  taskReturned(task: Task): void {
    this.#components.outputs.discard(task)
    this.#components.claimed.markReturned([task])
    this.#requestWork()
  }

  taskOutput(task: Task, stream: OutputStream, chunk: Uint8Array): Promise<void> {
    return this.#components.outputs.write(task, stream, chunk)
  }

  tasksConfirmed(clientId: string, clientHost: string, tasks: readonly Task[]): void {
    if (this.#parts.settings.confirm)
      this.#components.reaper.scheduleConfirmation(clientId, clientHost, tasks)
  }

  capacityChanged(): void {
    this.#requestWork()
  }

  runnersNeeded(): void {
    const { runnerService, settings } = this.#parts
    if (runnerService.cluster) return
    const { pickRunner } = this.#components.shellExecutor
    runnerService.register(pickRunner, createRunnerSize(settings, this))
  }

  fail(error: Error): void {
    if (this.#state === 'ended') return
    this.#state = 'ended'
    this.#endStoreWait()
    this.#done.reject(error)
  }

  // OutcomeSink: called by the outcome writer.

  async outcomesStored(
    all: readonly CompletedAttempt[],
    refused: ReadonlyMap<string, OutcomeRefusal>,
  ): Promise<void> {
    for (const { task } of all) this.#components.claimed.removeRunning(task.id, task.fence)
    await this.#components.results.reportCompleted(all, refused)
    this.#expectNewTasks()
  }

  // LeaseOwner: called by the lease.

  leaseLost(): void {
    this.#components.reaper.forgetRunners()
    for (const { task, executor } of this.#components.claimed.listRunning()) executor.cancel(task)
    this.#components.claimed.markReturned(this.#components.claimed.clearWaiting())
    this.#expectNewTasks()
  }

  tasksRecovered(count: number): void {
    this.#components.problems.report(
      `${count} tasks of servers that are gone are in the queue again`,
    )
    if (!this.#isStarted) return
    this.#adoptTasks().catch((error) => this.#components.problems.report(describeError(error)))
  }

  #handleInstance({ service, instance, state }: InstanceEvent): void {
    if (state === 'ready') this.capacityChanged()
    const isRunner = service === this.#parts.runnerService.href
    if (!isRunner || (state !== 'stopped' && state !== 'failed')) return
    this.#components.runnerLoads.removeRunner(instance)
    if (this.#parts.settings.confirm && this.#isStarted)
      this.#components.reaper.disconnectRunner(instance, state === 'failed')
  }

  #expectNewTasks(): void {
    this.#components.claimer.expectNewTasks()
    this.#requestWork()
  }

  #requestWork(): void {
    if (this.#isWorking) {
      this.#isWorkRequested = true
      return
    }
    if (!this.#isStarted) return
    this.#isWorking = true
    void this.#runWorkLoop()
  }

  /** Never rejects. */
  async #runWorkLoop(): Promise<void> {
    const { claimed, cancellations, results, problems } = this.#components
    try {
      do {
        this.#isWorkRequested = false
        await this.#releaseReturned()
        if (cancellations.mayExist) await results.reportCancelledWaiting()
        if (this.#state === 'working') claimed.dispatchWaiting()
        else claimed.markReturned(claimed.clearWaiting())
        if (this.#state === 'working' && (await this.#claimTasks())) this.#isWorkRequested = true
      } while (this.#isWorkRequested && this.#state !== 'ended')
      await this.#endIfDone()
      this.#storeFailures = 0
    } catch (error) {
      if (!isTransient(error)) return this.fail(asError(error))
      problems.report(describeError(error))
      await this.#waitForStore()
      this.#isWorkRequested = true
    } finally {
      this.#isWorking = false
    }
    if (this.#isWorkRequested && this.#state !== 'ended') this.#requestWork()
  }

  /** `drain`, `fail` and `close` end the wait. */
  #waitForStore(): Promise<void> {
    return new Promise((resolve) => {
      const timer = after(storeRetryDelay(this.#storeFailures++), resolve)
      this.#endStoreWait = () => {
        timer.clear()
        resolve()
      }
    })
  }

  /** Answers whether tasks were claimed. */
  async #claimTasks(): Promise<boolean> {
    const { claimer, outcomes } = this.#components
    const { count, retryAt } = await claimer.claimTasks(outcomes.size)
    if (retryAt !== undefined) this.#scheduleRetry(retryAt)
    return count > 0
  }

  /** Looks at the store again at that time, on the clock of `now()`, or before. */
  #scheduleRetry(at: number): void {
    if (this.#state === 'ended' || (this.#retry && this.#retry.at <= at)) return
    this.#retry?.timer.clear()
    const timer = after(Math.ceil(at - now()), () => {
      this.#retry = undefined
      this.#requestWork()
    })
    this.#retry = { at, timer }
  }

  async #releaseReturned(): Promise<void> {
    const tasks = this.#components.claimed.listReturned()
    if (tasks.length === 0) return
    const count = await this.store.release(tasks)
    this.#components.claimed.removeReturned(tasks)
    if (count < tasks.length) await this.#components.results.reportUnreleased(tasks)
  }

  /**
   * Ends the server if there is nothing more for it to do:
   *
   * 1. It has tasks, or has just been asked to look for some: it goes on.
   * 2. It drains: it ends.
   * 3. The last claims found tasks: it goes on.
   * 4. Failed tasks of a group hold back later groups: it fails if no more tasks can come, else it reports that once.
   * 5. More tasks may come, or tasks of it are with other servers or wait for an attempt: it goes on.
   * 6. Nothing is left. It ends, unless tasks were cancelled or added meanwhile.
   */
  async #endIfDone(): Promise<void> {
    // 1.
    if (this.#state === 'ended' || this.#isWorkRequested) return
    if (this.#components.claimed.size > 0) return
    // 2.
    if (this.#state === 'draining') {
      await this.#components.results.reportCancelledWaiting()
      return this.#end()
    }
    // 3.
    if (!this.#components.claimer.hasNothingToClaim) return
    const turn = await this.store.groupTurn(this.maxAttempts, this.batches)
    const mayGetTasks = this.#parts.settings.forever || this.#isSourceOpen
    // 4.
    if (turn.is === 'blocked') {
      const message = describeBlockedGroup(turn)
      if (!mayGetTasks) return this.fail(new ManyhostError('MANYHOST_GROUP_FAILED', message))
      if (this.#blockedGroup !== turn.group) this.#components.problems.report(message)
      this.#blockedGroup = turn.group
      return
    }
    this.#blockedGroup = -1
    // 5.
    if (mayGetTasks || turn.is !== 'done') return
    // 6.
    if (await this.#components.results.reportCancelledWaiting()) return this.#expectNewTasks()
    if (!this.#isWorkRequested && this.#components.claimed.size === 0) this.#end()
  }

  #end(): void {
    this.#state = 'ended'
    this.#done.resolve()
  }
}

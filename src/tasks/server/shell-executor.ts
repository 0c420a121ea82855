/** Runs shell tasks: they go to runners, which are instances of an ordinary service, in bundles of one POST each. */
import type { Client } from '../../client/client.ts'
import type { Response } from '../../client/response.ts'
import { asError, describeError, ManyhostError } from '../../core/errors.ts'
import { Fifo } from '../../core/fifo.ts'
import { after, type Timer } from '../../core/time.ts'
import type { Candidate, Pick } from '../../dispatch/balance.ts'
import {
  createUnstartedOutcome,
  EXIT_NO_RESOURCES,
  EXIT_RUNNER_LOST,
} from '../model/exit-status.ts'
import type { Task } from '../model/task.ts'
import {
  type BundleOptions,
  formatBundleLines,
  type RunnerMessage,
  type RunOutcome,
  readRunnerMessages,
} from '../runner/protocol.ts'
import type { TaskExecutor, TaskSink } from './executor.ts'
import { PostedBundle } from './posted-bundle.ts'
import type { ProblemReporter } from './problem-reporter.ts'
import type { RunnerCandidate, RunnerLoads } from './runner-loads.ts'
import type { RunnerService } from './runner-service.ts'

/** After this many lost runners, a task counts as the cause, and fails. */
const MAX_RUNNER_LOSSES = 5
/** After this many lost runners, a task is sent alone, and only one such task at a time. */
const SUSPECT_LOSSES = 2

/** Maximum number of tasks whose losses are counted. Then the table is cleared, because tasks that ended on another server stay in it. */
const MAX_REMEMBERED_LOSSES = 100_000

/** Pause after a bundle that failed for another reason than the death of its runner, in ms. */
const PAUSE_MS = 1_000

/** Characters of a runner's error answer that are shown. */
const MAX_SHOWN_ANSWER = 300

export interface ShellExecutorParts {
  readonly client: Client
  readonly runnerService: RunnerService
  readonly runnerLoads: RunnerLoads
  readonly bundleOptions: BundleOptions
  /** Most tasks of one bundle. */
  readonly bundleSize: number
  readonly priority: number
  readonly problems: ProblemReporter
}

export class ShellExecutor implements TaskExecutor {
  readonly kind = 'shell'
  readonly #parts: ShellExecutorParts
  readonly #sink: TaskSink
  readonly #postedBundles = new Set<PostedBundle>()
  /** How often each task has lost its runner. */
  readonly #runnerLosses = new Map<string, number>()
  /** Tasks that wait to be sent alone. */
  readonly #suspects = new Fifo<Task>()
  /** Ids of tasks that were cancelled and whose outcome has not come yet. */
  readonly #cancelled = new Set<string>()
  /** While it runs, nothing is sent. */
  #pause: Timer | undefined
  /** The instance that the next pick of the queue is to be. */
  #preferredInstance: string | undefined
  #isStopped = false

  constructor(parts: ShellExecutorParts, sink: TaskSink) {
    this.#parts = parts
    this.#sink = sink
  }

  availableCapacity(): number {
    if (this.#pause || this.#isStopped) return 0
    const { runnerLoads, bundleSize, runnerService } = this.#parts
    const { cluster } = runnerService
    const ready = cluster?.instances.filter(({ state }) => state === 'ready') ?? []
    // While no runner is ready, one bundle waits in the queue: this makes the cluster start a runner.
    if (!cluster || ready.length === 0) return runnerLoads.queuedBundleCount > 0 ? 0 : 1
    const { concurrency } = cluster.settings
    const fits = ({ id, inFlight }: RunnerCandidate): boolean =>
      inFlight < concurrency && runnerLoads.availableCapacity(id) > 0
    const best = ready[runnerLoads.findBestRunner(ready, fits)]
    // A queued bundle goes to a runner that the queue picks; until then its capacity is not known.
    if (!best || runnerLoads.queuedBundleCount >= ready.length) return 0
    return Math.min(bundleSize, Math.max(0, runnerLoads.availableCapacity(best.id)))
  }

  execute(tasks: readonly Task[]): void {
    try {
      this.#sink.runnersNeeded()
    } catch (error) {
      for (const task of tasks) this.#sink.taskReturned(task)
      return this.#sink.fail(asError(error))
    }
    const isSuspect = ({ id }: Task): boolean => (this.#runnerLosses.get(id) ?? 0) >= SUSPECT_LOSSES
    const suspects = tasks.filter(isSuspect)
    if (suspects.length > 0) {
      for (const task of suspects) this.#suspects.push(task)
      this.#sendNextSuspect()
    }
    const others = suspects.length > 0 ? tasks.filter((task) => !isSuspect(task)) : tasks
    if (others.length > 0) void this.#send(others, false)
  }

  cancel(task: Task): void {
    this.#cancelled.add(task.id)
    const bundle = [...this.#postedBundles].find((one) => one.has(task))
    if (bundle) void this.#cancelAtRunner(task, bundle.instanceId)
  }

  stop(): void {
    this.#isStopped = true
    this.#pause?.clear()
    for (const task of this.#suspects) this.#sink.taskReturned(task)
    this.#suspects.clear()
    for (const { controller } of this.#postedBundles)
      controller.abort(new Error('the task server stops'))
  }

  #sendNextSuspect(): void {
    if ([...this.#postedBundles].some(({ isSuspect }) => isSuspect)) return
    const task = this.#suspects.shift()
    if (task) void this.#send([task], true)
  }

  /** Never rejects. */
  async #send(tasks: readonly Task[], isSuspect: boolean): Promise<void> {
    const { client, runnerService, bundleOptions, priority, runnerLoads } = this.#parts
    const bundle = new PostedBundle(tasks, isSuspect)
    const { signal } = bundle.controller
    this.#postedBundles.add(bundle)
    runnerLoads.addQueuedBundle(tasks.length)
    let isLost = false
    try {
      const response = await client.post(`${runnerService.url}/tasks`, {
        body: [...formatBundleLines(bundleOptions, tasks)].join(''),
        headers: this.#headers,
        priority,
        resend: 'never',
        timeout: 0,
        signal,
      })
      bundle.instanceId = response.timing?.instance ?? ''
      if (response.status !== 200) {
        runnerLoads.removeAssignedBundle(bundle.instanceId, tasks.length)
        await this.#handleErrorStatus(response)
      } else {
        isLost = true
        await this.#readResponse(response, bundle)
        isLost = false
      }
    } catch (error) {
      this.#handlePostError(error, bundle)
    }
    this.#postedBundles.delete(bundle)
    this.#finishBundle(bundle, isLost && !signal.aborted && !this.#isStopped)
    if (isSuspect) this.#sendNextSuspect()
    this.#sink.capacityChanged()
  }

  get #headers(): Record<string, string> {
    const { token } = this.#parts.runnerService
    return token === undefined ? {} : { authorization: `Bearer ${token}` }
  }

  async #readResponse(response: Response, bundle: PostedBundle): Promise<void> {
    const { tasks } = bundle
    const body = response.body as unknown as AsyncIterable<Uint8Array>
    for await (const message of readRunnerMessages(body)) {
      switch (message.is) {
        case 'stdout':
        case 'stderr':
        case 'csv': {
          const task = tasks[message.index]
          if (task) await this.#sink.taskOutput(task, message.is, message.data)
          break
        }
        default:
          this.#handleMessage(message, bundle)
      }
    }
  }

  #handleMessage(message: RunnerMessage, bundle: PostedBundle): void {
    const instanceId = bundle.instanceId as string
    if (message.is === 'hello') {
      const { clientId, clientHost, numTasks } = message.hello
      this.#parts.runnerLoads.confirmBundle(instanceId, bundle.tasks.length, numTasks)
      this.#sink.tasksConfirmed(clientId, clientHost, bundle.tasks)
      this.#sink.capacityChanged()
    } else if (message.is === 'outcomes') {
      for (const outcome of message.outcomes) this.#handleOutcome(bundle, outcome)
      this.#sink.capacityChanged()
    } else if (message.is === 'returned') {
      for (const { id } of message.tasks) {
        const task = this.#takePending(bundle, id)
        if (task) this.#sink.taskReturned(task)
      }
    } else if (message.is === 'refused') {
      const task = this.#takePending(bundle, bundle.tasks[message.index]?.id ?? '')
      if (!task) return
      const outcome = createUnstartedOutcome(task, EXIT_NO_RESOURCES)
      this.#sink.taskSettled(task, outcome, message.message)
    }
  }

  /** A task that is over at its runner; undefined if it was before. */
  #takePending({ pendingTasks, instanceId }: PostedBundle, id: string): Task | undefined {
    const task = pendingTasks.get(id)
    if (!task) return undefined
    pendingTasks.delete(id)
    this.#parts.runnerLoads.removeEndedTasks(instanceId as string)
    return task
  }

  #handleOutcome(bundle: PostedBundle, outcome: RunOutcome): void {
    const task = this.#takePending(bundle, outcome.id)
    if (!task) return
    const { message, interrupted, ...plain } = outcome
    this.#runnerLosses.delete(task.id)
    // The runner was stopped while the task ran, which says nothing of the task.
    if (interrupted === 'stopped') return this.#sink.taskReturned(task)
    this.#cancelled.delete(task.id)
    if (plain.startTime !== null && !interrupted) {
      this.#parts.runnerLoads.recordDuration(plain.completionTime - plain.startTime)
    }
    this.#sink.taskSettled(task, plain, message)
  }

  /** The answer has ended. Tasks without an outcome go to another runner, unless they have lost too many. */
  #finishBundle({ pendingTasks, instanceId }: PostedBundle, isLost: boolean): void {
    for (const task of pendingTasks.values()) {
      if (instanceId !== undefined) this.#parts.runnerLoads.removeEndedTasks(instanceId)
      this.#cancelled.delete(task.id)
      const losses = (this.#runnerLosses.get(task.id) ?? 0) + (isLost ? 1 : 0)
      if (losses < MAX_RUNNER_LOSSES) {
        if (isLost) this.#runnerLosses.set(task.id, losses)
        this.#sink.taskReturned(task)
        continue
      }
      this.#runnerLosses.delete(task.id)
      const message = `its runner was lost ${losses} times while it had the task`
      this.#sink.taskSettled(task, createUnstartedOutcome(task, EXIT_RUNNER_LOST), message)
    }
    pendingTasks.clear()
    if (this.#runnerLosses.size > MAX_REMEMBERED_LOSSES) this.#runnerLosses.clear()
  }

  async #handleErrorStatus(response: Response): Promise<void> {
    const { status } = response
    const text = (await response.text()).slice(0, MAX_SHOWN_ANSWER)
    const message = `a runner answered ${status}: ${text}`
    // It would answer every other bundle in the same way.
    if (status === 401 || status === 400 || status === 404) {
      return this.#sink.fail(new ManyhostError('MANYHOST_BAD_STATUS', message))
    }
    this.#pauseSending(message)
  }

  #handlePostError(error: unknown, { instanceId, tasks, controller }: PostedBundle): void {
    const hasReachedRunner = instanceId !== undefined
    if (!hasReachedRunner) this.#parts.runnerLoads.removeQueuedBundle(tasks.length)
    if (controller.signal.aborted || this.#isStopped) return
    // A runner that died with a bundle is replaced, and no user has to know. What keeps bundles from runners is reported.
    if (!hasReachedRunner) this.#pauseSending(describeError(error))
  }

  #pauseSending(reason: string): void {
    if (this.#isStopped || this.#pause) return
    this.#parts.problems.report(reason)
    this.#pause = after(PAUSE_MS, () => {
      this.#pause = undefined
      this.#sink.capacityChanged()
    })
  }

  /**
   * Asks runners to end a task: first the one that has it, then whichever the queue picks. Never rejects.
   * @param instanceId undefined: the runner is not known yet
   */
  async #cancelAtRunner(task: Task, instanceId: string | undefined): Promise<void> {
    const { client, runnerService, priority, problems } = this.#parts
    const path = `${runnerService.url}/tasks/${encodeURIComponent(task.id)}?fence=${task.fence}`
    const options = { headers: this.#headers, priority: -priority, resend: 'never' } as const
    const maxTries = 2 * Math.max(1, runnerService.cluster?.instances.length ?? 0)
    for (let tries = 0; tries < maxTries && this.#cancelled.has(task.id); tries++) {
      try {
        // The queue calls `pickRunner` during this call if a slot is free, and one nearly always is.
        this.#preferredInstance = instanceId
        const answer = client.delete(path, options)
        this.#preferredInstance = undefined
        const response = await answer
        await response.text()
        if (response.status === 200) break
      } catch (error) {
        problems.report(`task ${task.id} could not be cancelled: ${describeError(error)}`)
        break
      }
    }
    this.#cancelled.delete(task.id)
  }

  /**
   * The balance of the runners' service. A bundle goes to the runner with most capacity, for which its size was chosen; a
   * cancellation goes to the runner that has the task.
   */
  readonly pickRunner: Pick = (targets, { turn }) => {
    const { runnerLoads } = this.#parts
    const fits = ({ open, inFlight, slots }: Candidate): boolean => open && inFlight < slots
    if (this.#preferredInstance !== undefined) {
      const at = targets.findIndex((one) => one.id === this.#preferredInstance && fits(one))
      if (at >= 0) return at
    }
    const at = runnerLoads.findBestRunner(
      targets,
      fits as (one: RunnerCandidate) => boolean,
      turn % targets.length,
    )
    const target = targets[at]
    if (target) runnerLoads.assignQueuedBundle(target.id)
    return at
  }
}

/** ShellExecutor tasks go to runners, instances of an ordinary service, in bundles; each answer tells of many tasks. */
import type { Client } from '../../client/client.ts'
import type { Response } from '../../client/response.ts'
import type { Cluster } from '../../cluster/cluster.ts'
import { asError, describeError, ManyhostError } from '../../core/errors.ts'
import { after, type Timer, wallClock } from '../../core/time.ts'
import type { Candidate, Pick } from '../../dispatch/balance.ts'
import type { Task } from '../model/task.ts'
import {
  type BundleOptions,
  formatBundleLines,
  type RunnerMessage,
  type RunOutcome,
  readRunnerMessages,
} from '../runner/protocol.ts'
import type { TaskExecutor, TaskSink } from './executor.ts'
import type { RunnerCandidate, RunnerLoads } from './runner-loads.ts'

/** Losses of its runner after which a task is taken for their cause. */
const MAX_RUNNER_LOSSES = 5
/** From so many on it goes alone, one such at a time. */
const SUSPECT_LOSSES = 2

/** Wait after a bundle that failed for another reason than its runner's death, in ms. */
const PAUSE_MS = 1_000

/** Of a task whose runner was lost each time: as of one that the kernel killed. */
const LOST_EXIT_STATUS = 137

export interface ShellExecutorParts {
  readonly url: string
  readonly token: string | undefined
  readonly client: Client
  /** Undefined until there is need of it. */
  readonly cluster: () => Cluster | undefined
  /** There is need of it. @throws ManyhostError where runners cannot be started */
  readonly ensureRunnerService: () => void
  readonly runnerLoads: RunnerLoads
  readonly bundleOptions: BundleOptions
  readonly bundleSize: number
  readonly priority: number
}

/** A POST under way. */
interface PostedBundle {
  readonly pendingTasks: Map<string, Task>
  readonly tasks: readonly Task[]
  readonly controller: AbortController
  /** The runner's instance, once it has answered. */
  instanceId: string | undefined
  isSuspect: boolean
}

export class ShellExecutor implements TaskExecutor {
  readonly kind = 'shell'
  readonly #parts: ShellExecutorParts
  readonly #sink: TaskSink
  readonly #postedBundles = new Set<PostedBundle>()
  readonly #runnerLosses = new Map<string, number>()
  readonly #suspects: Task[] = []
  readonly #cancelled = new Set<string>()
  #pause: Timer | undefined
  /** The instance that the next pick of the queue is to be. */
  #preferredInstance: string | undefined
  #isStopped = false

  constructor(parts: ShellExecutorParts, desk: TaskSink) {
    this.#parts = parts
    this.#sink = desk
  }

  availableCapacity(): number {
    if (this.#pause || this.#isStopped) return 0
    const { runnerLoads: books, bundleSize, cluster } = this.#parts
    const known = cluster()
    const ready = known?.instances.filter(({ state }) => state === 'ready') ?? []
    // One bundle waits where nobody is there to take it: that is what calls a runner up.
    if (!known || ready.length === 0) return books.queuedBundleCount > 0 ? 0 : 1
    const { settings } = known
    const fits = ({ id, inFlight }: { id: string; inFlight: number }): boolean =>
      inFlight < settings.concurrency && books.availableCapacity(id) > 0
    const best = ready[books.findBestRunner(ready, fits)]
    // What is announced goes to whom the queue picks: until then nobody knows how much room is left.
    if (!best || books.queuedBundleCount >= ready.length) return 0
    return Math.min(bundleSize, Math.max(0, books.availableCapacity(best.id)))
  }

  execute(tasks: readonly Task[]): void {
    try {
      this.#parts.ensureRunnerService()
    } catch (error) {
      for (const task of tasks) this.#sink.taskReturned(task)
      return this.#sink.fail(asError(error))
    }
    const plain = tasks.filter(({ id }) => (this.#runnerLosses.get(id) ?? 0) < SUSPECT_LOSSES)
    if (plain.length < tasks.length) {
      this.#suspects.push(...tasks.filter((task) => !plain.includes(task)))
      this.#sendNextSuspect()
    }
    if (plain.length > 0) void this.#send(plain, false)
  }

  cancel(task: Task): void {
    this.#cancelled.add(task.id)
    const trip = [...this.#postedBundles].find(
      ({ pendingTasks: left }) => left.get(task.id)?.fence === task.fence,
    )
    if (trip) void this.#cancelAtRunner(task, trip.instanceId)
  }

  stop(): void {
    this.#isStopped = true
    this.#pause?.clear()
    for (const task of this.#suspects.splice(0)) this.#sink.taskReturned(task)
    for (const { controller } of this.#postedBundles)
      controller.abort(new Error('the server stops'))
  }

  #sendNextSuspect(): void {
    if ([...this.#postedBundles].some(({ isSuspect }) => isSuspect)) return
    const task = this.#suspects.shift()
    if (task) void this.#send([task], true)
  }

  async #send(tasks: readonly Task[], isSuspect: boolean): Promise<void> {
    const { client, url, token, bundleOptions: bundle, priority, runnerLoads: books } = this.#parts
    const left = new Map(tasks.map((task) => [task.id, task]))
    const controller = new AbortController()
    const trip: PostedBundle = {
      pendingTasks: left,
      tasks,
      controller,
      instanceId: undefined,
      isSuspect,
    }
    this.#postedBundles.add(trip)
    books.addQueuedBundle(tasks.length)
    let isLost = false
    try {
      const response = await client.post(`${url}/tasks`, {
        body: [...formatBundleLines(bundle, tasks)].join(''),
        headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
        priority,
        resend: 'never',
        timeout: 0,
        signal: controller.signal,
      })
      trip.instanceId = response.timing?.instance ?? ''
      if (response.status !== 200) {
        books.removeAssignedBundle(trip.instanceId, tasks.length)
        await this.#handleErrorStatus(response)
      } else {
        isLost = true
        await this.#readResponse(response, trip)
        isLost = false
      }
    } catch (error) {
      this.#handlePostError(error, trip)
    }
    this.#postedBundles.delete(trip)
    this.#finishBundle(trip, isLost && !controller.signal.aborted && !this.#isStopped)
    if (isSuspect) this.#sendNextSuspect()
    this.#sink.capacityChanged()
  }

  async #readResponse(response: Response, trip: PostedBundle): Promise<void> {
    const { tasks } = trip
    const at = trip.instanceId as string
    const body = response.body as unknown as AsyncIterable<Uint8Array>
    for await (const message of readRunnerMessages(body)) {
      switch (message.is) {
        case 'hello':
          this.#parts.runnerLoads.confirmBundle(at, tasks.length, message.hello.numTasks)
          this.#sink.tasksConfirmed(message.hello.clientId, message.hello.clientHost, tasks)
          this.#sink.capacityChanged()
          break
        case 'stdout':
        case 'stderr':
        case 'csv': {
          const task = tasks[message.index]
          if (task) await this.#sink.taskOutput(task, message.is, message.data)
          break
        }
        default:
          this.#handleMessage(message, trip)
      }
    }
  }

  #handleMessage(message: RunnerMessage, trip: PostedBundle): void {
    const { runnerLoads: books } = this.#parts
    if (message.is === 'outcomes') {
      for (const outcome of message.outcomes) this.#handleOutcome(trip, outcome)
      this.#sink.capacityChanged()
    } else if (message.is === 'returned') {
      for (const { id } of message.tasks) {
        const task = trip.pendingTasks.get(id)
        if (!task) continue
        trip.pendingTasks.delete(id)
        books.removeEndedTasks(trip.instanceId as string)
        this.#sink.taskReturned(task)
      }
    } else if (message.is === 'refused') {
      const task = trip.tasks[message.index]
      if (!task || !trip.pendingTasks.delete(task.id)) return
      books.removeEndedTasks(trip.instanceId as string)
      this.#sink.taskSettled(task, unstartedOutcome(task, -3), message.message)
    }
  }

  #handleOutcome(trip: PostedBundle, outcome: RunOutcome): void {
    const task = trip.pendingTasks.get(outcome.id)
    if (!task) return
    const { runnerLoads: books } = this.#parts
    const { message, interrupted, ...plain } = outcome
    trip.pendingTasks.delete(task.id)
    books.removeEndedTasks(trip.instanceId as string)
    this.#runnerLosses.delete(task.id)
    // The runner was told to stop: that says nothing of the task.
    if (interrupted === 'stopped') return this.#sink.taskReturned(task)
    this.#cancelled.delete(task.id)
    if (plain.startTime !== null && !interrupted) {
      books.recordDuration(plain.completionTime - plain.startTime)
    }
    this.#sink.taskSettled(task, plain, message)
  }

  /** The answer has ended: who has no outcome yet goes to another runner. */
  #finishBundle(trip: PostedBundle, isLost: boolean): void {
    const { runnerLoads: books } = this.#parts
    for (const task of trip.pendingTasks.values()) {
      if (trip.instanceId !== undefined) books.removeEndedTasks(trip.instanceId)
      this.#cancelled.delete(task.id)
      const losses = (this.#runnerLosses.get(task.id) ?? 0) + (isLost ? 1 : 0)
      if (losses < MAX_RUNNER_LOSSES) {
        if (isLost) this.#runnerLosses.set(task.id, losses)
        this.#sink.taskReturned(task)
        continue
      }
      this.#runnerLosses.delete(task.id)
      const why = `its runner was lost ${losses} times while it had the task`
      this.#sink.taskSettled(task, unstartedOutcome(task, LOST_EXIT_STATUS), why)
    }
    trip.pendingTasks.clear()
    // Tasks that somebody else ended meanwhile are not heard of again.
    if (this.#runnerLosses.size > 100_000) this.#runnerLosses.clear()
  }

  async #handleErrorStatus(response: Response): Promise<void> {
    const said = (await response.text()).slice(0, 300)
    const text = `a runner answered ${response.status}: ${said}`
    if (response.status === 401 || response.status === 400 || response.status === 404) {
      return this.#sink.fail(new ManyhostError('MANYHOST_BAD_STATUS', text))
    }
    this.#pauseSending(text)
  }

  #handlePostError(error: unknown, { instanceId: at, tasks, controller }: PostedBundle): void {
    if (at === undefined) this.#parts.runnerLoads.removeQueuedBundle(tasks.length)
    if (controller.signal.aborted || this.#isStopped) return
    // A runner that died is replaced; what else keeps bundles away is told.
    if (at === undefined) this.#pauseSending(describeError(error))
  }

  #pauseSending(text: string): void {
    if (this.#isStopped || this.#pause) return
    this.#sink.reportProblem(text)
    this.#pause = after(PAUSE_MS, () => {
      this.#pause = undefined
      this.#sink.capacityChanged()
    })
  }

  /** Asks runners to end a task: first who has it, by our books, then whoever the queue gives. */
  async #cancelAtRunner(task: Task, at: string | undefined): Promise<void> {
    const { client, url, token, priority, cluster } = this.#parts
    const headers = token === undefined ? {} : { authorization: `Bearer ${token}` }
    const path = `${url}/tasks/${encodeURIComponent(task.id)}?fence=${task.fence}`
    const tries = 2 * Math.max(1, cluster()?.instances.length ?? 0)
    for (let i = 0; i < tries && this.#cancelled.has(task.id); i++) {
      try {
        // The queue picks at once where there is a place, and there nearly always is.
        this.#preferredInstance = at
        const answer = client.delete(path, { headers, priority: -priority, resend: 'never' })
        this.#preferredInstance = undefined
        const response = await answer
        await response.text()
        if (response.status === 200) break
      } catch (error) {
        this.#sink.reportProblem(`cancelling ${task.id}: ${describeError(error)}`)
        break
      }
    }
    this.#cancelled.delete(task.id)
  }

  /** The queue's choice for bundles: who has the most room by our books, and that is what their sizes were made for. */
  readonly pickRunner: Pick = (targets, { turn }) => {
    const { runnerLoads: books } = this.#parts
    const fits = ({ open, inFlight, slots: places }: Candidate): boolean =>
      open && inFlight < places
    if (this.#preferredInstance !== undefined) {
      const at = targets.findIndex((one) => one.id === this.#preferredInstance && fits(one))
      if (at >= 0) return at
    }
    const at = books.findBestRunner(
      targets,
      fits as (one: RunnerCandidate) => boolean,
      turn % targets.length,
    )
    const target = targets[at]
    if (target) books.assignQueuedBundle(target.id)
    return at
  }
}

function unstartedOutcome({ id, fence }: Task, exitStatus: number) {
  return {
    id,
    fence,
    exitStatus,
    command: null,
    clientId: null,
    clientHost: null,
    startTime: null,
    completionTime: wallClock(),
  }
}

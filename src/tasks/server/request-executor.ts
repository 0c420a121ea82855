/** Tasks that are requests go to their virtual URLs, through the same queues as all others, behind them. */

import type { Cluster } from '../../cluster/cluster.ts'
import { describeError, ManyhostError } from '../../core/errors.ts'
import { wallClock } from '../../core/time.ts'
import type { SessionCore } from '../../session/session.ts'
import type { Task, TaskOutcome, TaskRequest } from '../model/task.ts'
import type { TaskExecutor, TaskSink } from './executor.ts'
import { RequestTask, type RequestTaskParts } from './request-task.ts'
import { computePrefetch } from './runner-loads.ts'

/** A request that no instance answered; the status of the error where it has one. */
const NO_RESPONSE_STATUS = 502

export interface RequestExecutorParts {
  readonly session: SessionCore
  readonly priority: number
  /** Whether answers' bodies are kept. */
  isCaptured(task: Task): boolean
  /** Milliseconds; 0: unlimited. */
  readonly timeoutMs: number
}

export class RequestExecutor implements TaskExecutor {
  readonly kind = 'request'
  readonly #parts: RequestExecutorParts
  readonly #sink: TaskSink
  readonly #cluster: Cluster
  readonly #requestTaskParts: RequestTaskParts
  readonly #running = new Map<string, RequestTask>()
  /** There is no room while more than these are under way. */
  #refillThreshold = 0
  #isStopped = false
  /** Of a request at its instance, in ms. */
  #meanDurationMs: number | null = null

  constructor(cluster: Cluster, parts: RequestExecutorParts, desk: TaskSink) {
    this.#cluster = cluster
    this.#parts = parts
    this.#sink = desk
    const { session, priority } = parts
    this.#requestTaskParts = {
      session,
      priority,
      onOutput: (task, chunk) =>
        parts.isCaptured(task) ? desk.taskOutput(task, 'stdout', chunk) : undefined,
      onEnded: (errand, error) => this.#handleEnded(errand, error),
    }
  }

  availableCapacity(): number {
    if (this.#isStopped) return 0
    let places = 0
    for (const { state, target } of this.#cluster.instances) {
      if (state === 'ready') places += target?.slots ?? 0
    }
    // Some wait in the cluster's queue, so that no place waits for the next claim; one does that calls an instance up.
    const ahead = Math.max(1, computePrefetch(places, this.#meanDurationMs))
    // Half of them go before more come: many at a time, that is what a claim is cheap by.
    this.#refillThreshold = places + Math.floor(ahead / 2)
    return this.#running.size <= this.#refillThreshold ? places + ahead - this.#running.size : 0
  }

  execute(tasks: readonly Task[]): void {
    for (const task of tasks) {
      const errand = new RequestTask(task, this.#timeoutFor(task), this.#requestTaskParts)
      this.#running.set(task.id, errand)
      errand.send()
    }
  }

  cancel({ id }: Task): void {
    this.#running.get(id)?.cancel(abortedError('it was cancelled'))
  }

  stop(): void {
    this.#isStopped = true
    for (const errand of this.#running.values()) errand.cancel(abortedError('the server stops'))
  }

  #handleEnded(errand: RequestTask, error: Error | undefined): void {
    const { task } = errand
    this.#running.delete(task.id)
    if (error && this.#isStopped) this.#sink.taskReturned(task)
    else this.#reportOutcome(errand, error)
    if (this.#running.size <= this.#refillThreshold) this.#sink.capacityChanged()
  }

  #reportOutcome(
    { task, startedAt: begun, queuedMs: queued, instanceId: instance, status }: RequestTask,
    error: Error | undefined,
  ): void {
    const startTime = begun + Math.floor(queued)
    const completionTime = wallClock()
    let exitStatus = status < 400 ? 0 : status
    let message: string | undefined
    if (error) {
      exitStatus = error instanceof ManyhostError ? error.status : NO_RESPONSE_STATUS
      message = describeError(error)
    } else {
      const took = completionTime - startTime
      this.#meanDurationMs =
        this.#meanDurationMs === null ? took : this.#meanDurationMs * 0.95 + took * 0.05
      if (exitStatus !== 0) {
        const { method, url } = task.request as TaskRequest
        message = `${method} ${url} answered ${status}`
      }
    }
    const outcome: TaskOutcome = {
      id: task.id,
      fence: task.fence,
      exitStatus,
      command: null,
      clientId: error ? null : instance,
      clientHost: null,
      startTime,
      completionTime,
    }
    this.#sink.taskSettled(task, outcome, message)
  }

  #timeoutFor(task: Task): number {
    const own = task.timeout ?? 0
    const { timeoutMs: timeout } = this.#parts
    return own && timeout ? Math.min(own, timeout) : own || timeout
  }
}

function abortedError(why: string): ManyhostError {
  return new ManyhostError('MANYHOST_ABORTED', `the request was given up: ${why}`)
}

/** Runs tasks that are requests: they go to their virtual URL through the queue of its service, behind live requests. */

import type { Cluster } from '../../cluster/cluster.ts'
import { describeError, ManyhostError } from '../../core/errors.ts'
import { wallClock } from '../../core/time.ts'
import type { SessionCore } from '../../session/session.ts'
import { EXIT_NO_RESPONSE, exitStatusOfResponse } from '../model/exit-status.ts'
import type { Task, TaskOutcome, TaskRequest } from '../model/task.ts'
import { shorterTimeout } from '../model/timeouts.ts'
import type { TaskExecutor, TaskSink } from './executor.ts'
import { MeanDuration } from './mean-duration.ts'
import { RequestTask, type RequestTaskParts } from './request-task.ts'
import { computePrefetch } from './runner-loads.ts'
import type { TaskOutputs } from './task-outputs.ts'

export interface RequestExecutorParts {
  readonly session: SessionCore
  readonly priority: number
  readonly outputs: Pick<TaskOutputs, 'isWanted'>
  /** Longest time of one request, in ms; 0: unlimited. */
  readonly timeoutMs: number
}

export class RequestExecutor implements TaskExecutor {
  readonly kind = 'request'
  readonly #parts: RequestExecutorParts
  readonly #sink: TaskSink
  readonly #cluster: Cluster
  readonly #requestTaskParts: RequestTaskParts
  readonly #running = new Map<string, RequestTask>()
  /** While more requests than these are under way, there is no capacity. */
  #refillThreshold = 0
  #isStopped = false
  /** Of a request at its instance. */
  readonly #meanDuration = new MeanDuration()

  constructor(cluster: Cluster, parts: RequestExecutorParts, sink: TaskSink) {
    this.#cluster = cluster
    this.#parts = parts
    this.#sink = sink
    const { session, priority, outputs } = parts
    this.#requestTaskParts = {
      session,
      priority,
      onOutput: (task, chunk) =>
        outputs.isWanted(task) ? sink.taskOutput(task, 'stdout', chunk) : undefined,
      onEnded: (requestTask, error) => this.#handleEnded(requestTask, error),
    }
  }

  availableCapacity(): number {
    if (this.#isStopped) return 0
    let slots = 0
    for (const { state, target } of this.#cluster.instances) {
      if (state === 'ready') slots += target?.slots ?? 0
    }
    // Some requests wait in the cluster's queue, so that no slot waits for the next claim. One is needed in any case: a
    // request in the queue is what starts the first instance.
    const prefetched = Math.max(1, computePrefetch(slots, this.#meanDuration.ms))
    // More are taken when half of the prefetched ones are gone: one claim of many tasks costs less than many claims.
    this.#refillThreshold = slots + Math.floor(prefetched / 2)
    const { size } = this.#running
    return size <= this.#refillThreshold ? slots + prefetched - size : 0
  }

  execute(tasks: readonly Task[]): void {
    for (const task of tasks) {
      const requestTask = new RequestTask(task, this.#timeoutFor(task), this.#requestTaskParts)
      this.#running.set(task.id, requestTask)
      requestTask.send()
    }
  }

  cancel({ id }: Task): void {
    this.#running.get(id)?.cancel(abortedError('the task was cancelled'))
  }

  stop(): void {
    this.#isStopped = true
    for (const one of this.#running.values()) one.cancel(abortedError('the task server stops'))
  }

  #handleEnded(requestTask: RequestTask, error: Error | undefined): void {
    const { task } = requestTask
    this.#running.delete(task.id)
    if (error && this.#isStopped) this.#sink.taskReturned(task)
    else this.#reportOutcome(requestTask, error)
    if (this.#running.size <= this.#refillThreshold) this.#sink.capacityChanged()
  }

  #reportOutcome(
    { task, startedAt, queuedMs, instanceId, status }: RequestTask,
    error: Error | undefined,
  ): void {
    const startTime = startedAt + Math.floor(queuedMs)
    const completionTime = wallClock()
    let exitStatus = exitStatusOfResponse(status)
    let message: string | undefined
    if (error) {
      exitStatus = error instanceof ManyhostError ? error.status : EXIT_NO_RESPONSE
      message = describeError(error)
    } else {
      this.#meanDuration.add(completionTime - startTime)
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
      clientId: error ? null : instanceId,
      clientHost: null,
      startTime,
      completionTime,
    }
    this.#sink.taskSettled(task, outcome, message)
  }

  /** The shorter of the task's own and the server's; 0: unlimited. */
  #timeoutFor({ timeout }: Task): number {
    return shorterTimeout(timeout ?? 0, this.#parts.timeoutMs)
  }
}

function abortedError(reason: string): ManyhostError {
  return new ManyhostError('MANYHOST_ABORTED', `the request was given up: ${reason}`)
}

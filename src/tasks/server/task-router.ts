/** Which executor runs a task: the runners a shell command, the cluster at its URL a request. */

import { parseTargetUrl } from '../../client/request.ts'
import type { Cluster } from '../../cluster/cluster.ts'
import { createUnstartedOutcome, EXIT_NO_SERVICE } from '../model/exit-status.ts'
import type { Task } from '../model/task.ts'
import type { TaskExecutor, TaskSink } from './executor.ts'
import { RequestExecutor, type RequestExecutorParts } from './request-executor.ts'
import type { ShellExecutor } from './shell-executor.ts'

export interface TaskRouterParts extends RequestExecutorParts {
  readonly shellExecutor: ShellExecutor
  /** The virtual URL of the runners, as the session has it: no requests are sent there. */
  readonly runnersUrl: string
}

export class TaskRouter {
  readonly #parts: TaskRouterParts
  readonly #sink: TaskSink
  readonly #requestExecutors = new Map<Cluster, RequestExecutor>()
  readonly #noServiceExecutor: TaskExecutor

  constructor(parts: TaskRouterParts, sink: TaskSink) {
    this.#parts = parts
    this.#sink = sink
    this.#noServiceExecutor = createNoServiceExecutor(sink)
  }

  executorFor({ request }: Task): TaskExecutor {
    if (!request) return this.#parts.shellExecutor
    const cluster = this.#findCluster(request.url)
    return cluster ? this.#requestExecutorFor(cluster) : this.#noServiceExecutor
  }

  /** All executors that there are for the present services of the session. */
  listExecutors(): TaskExecutor[] {
    const { session, shellExecutor, runnersUrl } = this.#parts
    for (const cluster of session.clusters)
      if (cluster.url !== runnersUrl) this.#requestExecutorFor(cluster)
    return [shellExecutor, ...this.#requestExecutors.values()]
  }

  /** Ends all that runs. */
  stop(): void {
    this.#parts.shellExecutor.stop()
    for (const one of this.#requestExecutors.values()) one.stop()
  }

  #requestExecutorFor(cluster: Cluster): RequestExecutor {
    let executor = this.#requestExecutors.get(cluster)
    if (!executor) {
      executor = new RequestExecutor(cluster, this.#parts, this.#sink)
      this.#requestExecutors.set(cluster, executor)
    }
    return executor
  }

  /** Other programs write to the store as well: what is no URL belongs to no service. */
  #findCluster(url: string): Cluster | undefined {
    try {
      const { origin, path } = parseTargetUrl(url)
      return this.#parts.session.match(origin, path)
    } catch {
      return undefined
    }
  }
}

/** Requests to a URL without a service fail. They never go to the network, parts of which only this machine may reach. */
function createNoServiceExecutor(sink: TaskSink): TaskExecutor {
  return {
    kind: 'request',
    availableCapacity: () => Number.POSITIVE_INFINITY,
    execute(tasks) {
      for (const task of tasks) {
        const outcome = createUnstartedOutcome(task, EXIT_NO_SERVICE)
        sink.taskSettled(task, outcome, `no service is at ${task.request?.url}`)
      }
    },
    cancel() {},
    stop() {},
  }
}

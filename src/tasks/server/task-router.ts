/** Where a task goes: a shell command to the runners, a request to the cluster that is at its URL. */

import { parseTargetUrl } from '../../client/request.ts'
import type { Cluster } from '../../cluster/cluster.ts'
import type { SessionCore } from '../../session/session.ts'
import type { Task } from '../model/task.ts'
import type { TaskExecutor, TaskSink } from './executor.ts'
import { RequestExecutor } from './request-executor.ts'
import { noServiceOutcome } from './result.ts'
import type { ShellExecutor } from './shell-executor.ts'

export interface TaskRouterParts {
  readonly session: SessionCore
  readonly shellExecutor: ShellExecutor
  /** The virtual URL of the runners. */
  readonly runnersUrl: string
  readonly priority: number
  /** Of a request, in ms; 0: unlimited. */
  readonly timeoutMs: number
  /** Whether the body that answers it is kept. */
  isCaptured(task: Task): boolean
}

export class TaskRouter {
  readonly #parts: TaskRouterParts
  readonly #sink: TaskSink
  readonly #requestExecutors = new Map<Cluster, RequestExecutor>()
  readonly #noServiceExecutor: TaskExecutor

  constructor(parts: TaskRouterParts, desk: TaskSink) {
    this.#parts = parts
    this.#sink = desk
    this.#noServiceExecutor = createNoServiceExecutor(desk)
  }

  executorFor({ request }: Task): TaskExecutor {
    const { session, shellExecutor: shell } = this.#parts
    if (!request) return shell
    const cluster = findCluster(session, request.url)
    return cluster ? this.#requestExecutorFor(cluster) : this.#noServiceExecutor
  }

  /** Every way that leads somewhere now. */
  listExecutors(): TaskExecutor[] {
    const { session, shellExecutor: shell, runnersUrl } = this.#parts
    for (const cluster of session.clusters)
      if (cluster.url !== runnersUrl) this.#requestExecutorFor(cluster)
    return [shell, ...this.#requestExecutors.values()]
  }

  /** Ends all that runs. */
  stop(): void {
    this.#parts.shellExecutor.stop()
    for (const one of this.#requestExecutors.values()) one.stop()
  }

  #requestExecutorFor(cluster: Cluster): RequestExecutor {
    let requests = this.#requestExecutors.get(cluster)
    if (!requests) {
      requests = new RequestExecutor(cluster, this.#parts, this.#sink)
      this.#requestExecutors.set(cluster, requests)
    }
    return requests
  }
}

/** Where no service is, that is the outcome: a task never goes to the network, which only this machine may be able to reach. */
function createNoServiceExecutor(desk: TaskSink): TaskExecutor {
  return {
    kind: 'request',
    availableCapacity: () => Number.POSITIVE_INFINITY,
    execute(tasks) {
      for (const task of tasks) {
        desk.taskSettled(task, noServiceOutcome(task), `no service is at ${task.request?.url}`)
      }
    },
    cancel() {},
    stop() {},
  }
}

/** A store may have been written to by others: what is no URL is nobody's. */
function findCluster(session: SessionCore, url: string): Cluster | undefined {
  try {
    const { origin, path } = parseTargetUrl(url)
    return session.match(origin, path)
  } catch {
    return undefined
  }
}

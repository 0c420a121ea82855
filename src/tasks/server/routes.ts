/** Where a task goes: a shell command to the runners, a request to the cluster that is at its URL. */

import { targetOf } from '../../client/request.ts'
import type { Cluster } from '../../cluster/cluster.ts'
import type { Session } from '../../session/session.ts'
import type { Task } from '../task.ts'
import type { Carrier, Desk } from './carrier.ts'
import { Requests } from './requests.ts'
import { nowhere } from './result.ts'
import type { Shell } from './shell.ts'

export interface RouteParts {
  readonly session: Session
  readonly shell: Shell
  /** The virtual URL of the runners. */
  readonly runnersUrl: string
  readonly priority: number
  /** Of a request, in ms; 0: unlimited. */
  readonly timeout: number
  /** Whether the body that answers it is kept. */
  keeps(task: Task): boolean
}

export class Routes {
  readonly #parts: RouteParts
  readonly #desk: Desk
  readonly #requests = new Map<Cluster, Requests>()
  readonly #nowhere: Carrier

  constructor(parts: RouteParts, desk: Desk) {
    this.#parts = parts
    this.#desk = desk
    this.#nowhere = dropping(desk)
  }

  to({ request }: Task): Carrier {
    const { session, shell } = this.#parts
    if (!request) return shell
    const cluster = clusterAt(session, request.url)
    return cluster ? this.#at(cluster) : this.#nowhere
  }

  /** Every way that leads somewhere now. */
  all(): Carrier[] {
    const { session, shell, runnersUrl } = this.#parts
    for (const cluster of session.clusters) if (cluster.url !== runnersUrl) this.#at(cluster)
    return [shell, ...this.#requests.values()]
  }

  /** Ends all that runs. */
  stop(): void {
    this.#parts.shell.stop()
    for (const one of this.#requests.values()) one.stop()
  }

  #at(cluster: Cluster): Requests {
    let requests = this.#requests.get(cluster)
    if (!requests) {
      requests = new Requests(cluster, this.#parts, this.#desk)
      this.#requests.set(cluster, requests)
    }
    return requests
  }
}

/** Where no service is, that is the outcome: a task never goes to the network, which only this machine may be able to reach. */
function dropping(desk: Desk): Carrier {
  return {
    kind: 'request',
    room: () => Number.POSITIVE_INFINITY,
    take(tasks) {
      for (const task of tasks) {
        desk.settled(task, nowhere(task), `no service is at ${task.request?.url}`)
      }
    },
    cancel() {},
    stop() {},
  }
}

/** A store may have been written to by others: what is no URL is nobody's. */
function clusterAt(session: Session, url: string): Cluster | undefined {
  try {
    const { origin, path } = targetOf(url)
    return session.match(origin, path)
  } catch {
    return undefined
  }
}

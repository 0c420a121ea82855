/**
 * The registration of a task server in its store, by which it holds its claims. It renews the lease, and gives back the tasks of
 * servers that are dead. A server of this machine is known to be dead or alive by its process; any other by its silence.
 */
import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import { describeError } from '../../core/errors.ts'
import { every, type Timer } from '../../core/time.ts'
import { findProcess, formatProcess } from '../../posix/process-name.ts'
import type { ServedTasks } from '../store/servers.ts'
import type { Store } from '../store/store.ts'
import type { ProblemReporter } from './problem-reporter.ts'

/** Renewals within one lease. */
const RENEWALS_PER_LEASE = 4

const MIN_RENEW_INTERVAL_MS = 200

export interface TaskServerLeaseParts {
  readonly store: Store
  /** The tasks that the server works off. @default all that are in no batch */
  readonly serving?: ServedTasks
  /** Milliseconds of silence after which a server is taken for dead. */
  readonly leaseMs: number
  readonly problems: Pick<ProblemReporter, 'report'>
}

export interface LeaseOwner {
  /** The server was taken for dead: others have its tasks now, and it has a new id. */
  leaseLost(): void
  /** So many tasks of dead servers are in the queue again. */
  tasksRecovered(count: number): void
}

export class TaskServerLease {
  readonly host = hostname()
  readonly #parts: TaskServerLeaseParts
  readonly #owner: LeaseOwner
  #id = ''
  #timer: Timer | undefined
  #isRenewing = false

  constructor(parts: TaskServerLeaseParts, owner: LeaseOwner) {
    this.#parts = parts
    this.#owner = owner
  }

  /** Of the server in the store; empty before `acquire`. Another one after the lease was lost. */
  get id(): string {
    return this.#id
  }

  /** Registers the server, and renews the lease from then on. */
  async acquire(): Promise<void> {
    await this.#register()
    await this.#recover()
    const interval = Math.max(MIN_RENEW_INTERVAL_MS, this.#parts.leaseMs / RENEWALS_PER_LEASE)
    this.#timer = every(interval, () => void this.renew())
  }

  /** The server's tasks go back to the queue. */
  async release(): Promise<void> {
    this.#timer?.clear()
    if (this.#id === '') return
    LOCAL_SERVER_IDS.delete(this.#id)
    await this.#parts.store.unregisterServer(this.#id)
  }

  /** Renews the lease, and gives back the tasks of dead servers. Never rejects. */
  async renew(): Promise<void> {
    if (this.#isRenewing) return
    this.#isRenewing = true
    const { store, problems } = this.#parts
    try {
      if (!(await store.heartbeat(this.#id))) {
        problems.report(
          'another server took this one for dead, and its tasks over; it goes on under a new id',
        )
        await this.#register(() => this.#owner.leaseLost())
      }
      await this.#recover()
    } catch (error) {
      problems.report(describeError(error))
    } finally {
      this.#isRenewing = false
    }
  }

  /** @param onNewId called at once, before anything can be claimed under the new id */
  async #register(onNewId?: () => void): Promise<void> {
    const { store, serving } = this.#parts
    LOCAL_SERVER_IDS.delete(this.#id)
    this.#id = await store.registerServer(this.host, createServerId(), serving)
    LOCAL_SERVER_IDS.add(this.#id)
    onNewId?.()
  }

  async #recover(): Promise<void> {
    const { store, leaseMs } = this.#parts
    let count = 0
    const alive = [this.#id]
    for (const { id, host } of await store.servers()) {
      if (host !== this.host || id === this.#id) continue
      if (isServerProcessDead(id)) count += await store.unregisterServer(id)
      else if (isServerProcessAlive(id)) alive.push(id)
    }
    count += (await store.recover(leaseMs, alive)).tasks
    if (count > 0) this.#owner.tasksRecovered(count)
  }
}

/** Servers of this process. */
const LOCAL_SERVER_IDS = new Set<string>()

/** `random.namespace.pid.start`; only `random` where processes cannot be known. By it other servers of this machine find the process. */
export function createServerId(pid: number = process.pid): string {
  const random = randomBytes(8).toString('hex')
  const name = formatProcess(pid)
  return name === undefined ? random : `${random}.${name}`
}

/** Whether the process of a server is gone. True only where that is sure. */
export function isServerProcessDead(id: string): boolean {
  const found = findServerProcess(id)
  return found !== undefined && found.state === undefined
}

/**
 * Whether the process of a server runs. True only where that is sure. A process that is stopped (SIGSTOP) may never go on. In
 * this process there may be servers that failed and did not leave the store; these are found by their silence.
 */
export function isServerProcessAlive(id: string): boolean {
  const found = findServerProcess(id)
  if (found?.state === undefined || /^[Tt]$/.test(found.state)) return false
  return found.pid !== process.pid || LOCAL_SERVER_IDS.has(id)
}

function findServerProcess(id: string): ReturnType<typeof findProcess> {
  return findProcess(id.slice(id.indexOf('.') + 1))
}

/** Tasks that are requests go to their virtual URLs, through the same queues as all others, behind them. */

import type { Cluster } from '../../cluster/cluster.ts'
import { describe, ManyhostError } from '../../core/errors.ts'
import { wallClock } from '../../core/time.ts'
import type { Session } from '../../session/session.ts'
import type { Task, TaskOutcome, TaskRequest } from '../task.ts'
import { aheadOf } from './books.ts'
import type { Carrier, Desk } from './carrier.ts'
import { Errand, type ErrandParts } from './errand.ts'

/** A request that no instance answered; the status of the error where it has one. */
const NO_ANSWER = 502

export interface RequestParts {
  readonly session: Session
  readonly priority: number
  /** Whether answers' bodies are kept. */
  keeps(task: Task): boolean
  /** Milliseconds; 0: unlimited. */
  readonly timeout: number
}

export class Requests implements Carrier {
  readonly kind = 'request'
  readonly #parts: RequestParts
  readonly #desk: Desk
  readonly #cluster: Cluster
  readonly #errands: ErrandParts
  readonly #running = new Map<string, Errand>()
  /** There is no room while more than these are under way. */
  #low = 0
  #isStopped = false
  /** Of a request at its instance, in ms. */
  #mean: number | null = null

  constructor(cluster: Cluster, parts: RequestParts, desk: Desk) {
    this.#cluster = cluster
    this.#parts = parts
    this.#desk = desk
    const { session, priority } = parts
    this.#errands = {
      session,
      priority,
      output: (task, chunk) => (parts.keeps(task) ? desk.output(task, 'stdout', chunk) : undefined),
      ended: (errand, error) => this.#ended(errand, error),
    }
  }

  room(): number {
    if (this.#isStopped) return 0
    let places = 0
    for (const { state, target } of this.#cluster.instances) {
      if (state === 'ready') places += target?.places ?? 0
    }
    // Some wait in the cluster's queue, so that no place waits for the next claim; one does that calls an instance up.
    const ahead = Math.max(1, aheadOf(places, this.#mean))
    // Half of them go before more come: many at a time, that is what a claim is cheap by.
    this.#low = places + Math.floor(ahead / 2)
    return this.#running.size <= this.#low ? places + ahead - this.#running.size : 0
  }

  take(tasks: readonly Task[]): void {
    for (const task of tasks) {
      const errand = new Errand(task, this.#limit(task), this.#errands)
      this.#running.set(task.id, errand)
      errand.send()
    }
  }

  cancel({ id }: Task): void {
    this.#running.get(id)?.cancel(givenUp('it was cancelled'))
  }

  stop(): void {
    this.#isStopped = true
    for (const errand of this.#running.values()) errand.cancel(givenUp('the server stops'))
  }

  #ended(errand: Errand, error: Error | undefined): void {
    const { task } = errand
    this.#running.delete(task.id)
    if (error && this.#isStopped) this.#desk.returned(task)
    else this.#settle(errand, error)
    if (this.#running.size <= this.#low) this.#desk.moved()
  }

  #settle({ task, begun, queued, instance, status }: Errand, error: Error | undefined): void {
    const startTime = begun + Math.floor(queued)
    const completionTime = wallClock()
    let exitStatus = status < 400 ? 0 : status
    let message: string | undefined
    if (error) {
      exitStatus = error instanceof ManyhostError ? error.status : NO_ANSWER
      message = describe(error)
    } else {
      const took = completionTime - startTime
      this.#mean = this.#mean === null ? took : this.#mean * 0.95 + took * 0.05
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
    this.#desk.settled(task, outcome, message)
  }

  #limit(task: Task): number {
    const own = task.timeout ?? 0
    const { timeout } = this.#parts
    return own && timeout ? Math.min(own, timeout) : own || timeout
  }
}

function givenUp(why: string): ManyhostError {
  return new ManyhostError('MANYHOST_ABORTED', `the request was given up: ${why}`)
}

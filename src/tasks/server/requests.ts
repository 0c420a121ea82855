/** Tasks that are requests go to their virtual URLs, through the same queues as all others, behind them. */
import type { Client } from '../../client.ts'
import { describe, ManyhostError } from '../../errors.ts'
import type { Cluster } from '../../inside.ts'
import type { Response } from '../../response.ts'
import type { Session } from '../../session.ts'
import { wallClock } from '../../time.ts'
import type { Task, TaskOutcome, TaskRequest } from '../task.ts'
import { aheadOf } from './books.ts'
import type { Carrier, Desk } from './carrier.ts'

/** A request that no instance answered; the status of the error where it has one. */
const NO_ANSWER = 502

export interface RequestParts {
  readonly session: Session
  readonly client: Client
  readonly priority: number
  /** Whether answers' bodies are kept. */
  keeps(task: Task): boolean
  /** Milliseconds; 0: unlimited. */
  readonly timeout: number
}

export class Requests implements Carrier {
  readonly #parts: RequestParts
  readonly #desk: Desk
  readonly #cluster: Cluster
  readonly #running = new Map<string, AbortController>()
  #isStopped = false
  /** Of a request, waiting included; in ms. */
  #mean: number | null = null

  constructor(cluster: Cluster, parts: RequestParts, desk: Desk) {
    this.#cluster = cluster
    this.#parts = parts
    this.#desk = desk
  }

  room(): number {
    if (this.#isStopped) return 0
    let places = 0
    for (const { state, target } of this.#cluster.instances) {
      if (state === 'ready') places += target?.places ?? 0
    }
    // Some wait in the cluster's queue, so that no place waits for the next claim; one does that calls an instance up.
    const ahead = Math.max(1, aheadOf(places, this.#mean))
    return Math.max(0, places + ahead - this.#running.size)
  }

  take(tasks: readonly Task[]): void {
    for (const task of tasks) void this.#send(task)
  }

  cancel({ id }: Task): void {
    this.#running.get(id)?.abort(new Error('cancelled'))
  }

  stop(): void {
    this.#isStopped = true
    for (const controller of this.#running.values()) controller.abort(new Error('the server stops'))
  }

  async #send(task: Task): Promise<void> {
    const { client, priority } = this.#parts
    const { method, url, headers, body } = task.request as TaskRequest
    const controller = new AbortController()
    this.#running.set(task.id, controller)
    const startTime = wallClock()
    let settled: (() => void) | undefined
    try {
      const response = await client.request(method, url, {
        headers,
        ...(body !== null && { body }),
        priority,
        timeout: this.#limit(task),
        signal: controller.signal,
        // The same for each attempt of one task, so that the service may know it again.
        idempotencyKey: task.id,
      })
      await this.#readBody(task, response)
      const { status } = response
      const outcome = this.#outcome(task, startTime, status < 400 ? 0 : status, response)
      const why = status < 400 ? undefined : `${method} ${url} answered ${status}`
      settled = () => this.#desk.settled(task, outcome, why)
    } catch (error) {
      const status = error instanceof ManyhostError ? error.status : NO_ANSWER
      settled = this.#isStopped
        ? () => this.#desk.returned(task)
        : () => this.#desk.settled(task, this.#outcome(task, startTime, status), describe(error))
    }
    this.#running.delete(task.id)
    const took = wallClock() - startTime
    this.#mean = this.#mean === null ? took : this.#mean * 0.95 + took * 0.05
    settled()
    this.#desk.moved()
  }

  #limit(task: Task): number {
    const own = task.timeout ?? 0
    const { timeout } = this.#parts
    return own && timeout ? Math.min(own, timeout) : own || timeout
  }

  async #readBody(task: Task, response: Response): Promise<void> {
    if (!this.#parts.keeps(task)) return void (await response.bytes())
    if (!response.body) return
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
      await this.#desk.output(task, 'stdout', chunk)
    }
  }

  #outcome(task: Task, startTime: number, exitStatus: number, response?: Response): TaskOutcome {
    const instance = response?.timing?.instance ?? null
    return {
      id: task.id,
      fence: task.fence,
      exitStatus,
      command: null,
      clientId: instance,
      clientHost: null,
      startTime,
      completionTime: wallClock(),
    }
  }
}

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

/** A body of up to so many bytes is read at once. */
const SMALL = 65_536

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
  /** There is no room while more than these are under way. */
  #low = 0
  #isStopped = false
  /** Of a request at its instance, in ms. */
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
    // Half of them go before more come: many at a time, that is what a claim is cheap by.
    this.#low = places + Math.floor(ahead / 2)
    return this.#running.size <= this.#low ? places + ahead - this.#running.size : 0
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
    const begun = wallClock()
    let outcome: TaskOutcome | undefined
    let message: string | undefined
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
      const { status, timing } = response
      const startTime = begun + Math.floor(timing?.queued ?? 0)
      outcome = outcomeOf(task, startTime, status < 400 ? 0 : status, timing?.instance ?? null)
      if (status >= 400) message = `${method} ${url} answered ${status}`
      const took = wallClock() - startTime
      this.#mean = this.#mean === null ? took : this.#mean * 0.95 + took * 0.05
    } catch (error) {
      const status = error instanceof ManyhostError ? error.status : NO_ANSWER
      message = describe(error)
      if (!this.#isStopped) outcome = outcomeOf(task, begun, status, null)
    }
    this.#running.delete(task.id)
    if (outcome) this.#desk.settled(task, outcome, message)
    else this.#desk.returned(task)
    if (this.#running.size <= this.#low) this.#desk.moved()
  }

  #limit(task: Task): number {
    const own = task.timeout ?? 0
    const { timeout } = this.#parts
    return own && timeout ? Math.min(own, timeout) : own || timeout
  }

  async #readBody(task: Task, response: Response): Promise<void> {
    const isKept = this.#parts.keeps(task)
    const length = Number(response.rawHeader('content-length') ?? Number.NaN)
    if (!isKept && length <= SMALL) return void (await response.bytes())
    if (!response.body) return
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
      // What nobody keeps is read all the same, piece by piece: its end is the end of the task.
      if (isKept) await this.#desk.output(task, 'stdout', chunk)
    }
  }
}

function outcomeOf(
  { id, fence }: Task,
  startTime: number,
  exitStatus: number,
  clientId: string | null,
): TaskOutcome {
  return {
    id,
    fence,
    exitStatus,
    command: null,
    clientId,
    clientHost: null,
    startTime,
    completionTime: wallClock(),
  }
}

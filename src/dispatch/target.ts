/** An instance as the data plane sees it: the small type in which data plane and control plane meet. */
import type { Dispatcher } from 'undici'
import type { Latency } from './balance.ts'
import { hashText } from './hash.ts'
import type { QueueEntry } from './priority-queue.ts'

/**
 * An attempt that runs on a target, as far as the target needs to know it. While it waits, its links by age belong to
 * the queue. While it is in flight, they belong to the target.
 */
export interface InFlightRequest extends QueueEntry {
  /** Its index among the requests of the target. Only the target writes it. */
  index: number
  /** When it was given to the target, on the clock of `now()`. */
  readonly startedAt: number
  /** Ends the attempt at once, with the reason why its instance can no longer serve it. */
  interrupt(error: Error): void
}

export class Target {
  readonly id: string
  readonly hash: number
  readonly dispatcher: Dispatcher
  /** Whether the target takes new requests. */
  open = true
  /** Requests that it may serve at a time; it can be raised while it runs. */
  slots: number
  inFlight = 0
  /** Failed attempts in a row. */
  failures = 0
  /** Attempts for which a response began. */
  served = 0
  /** Round-trip times for `peak-ewma`. */
  readonly latency: Latency = { cost: 0, updatedAt: 0 }
  /** Server name for TLS. */
  readonly servername: string
  readonly #requests: InFlightRequest[] = []
  /** Ends of the list, by age, of the requests that have no response yet. */
  #oldest: InFlightRequest | undefined
  #newest: InFlightRequest | undefined

  constructor(id: string, dispatcher: Dispatcher, slots: number, servername = 'localhost') {
    this.id = id
    this.hash = hashText(id)
    this.servername = servername
    this.dispatcher = dispatcher
    this.slots = slots
  }

  get freeSlots(): number {
    return this.open ? this.slots - this.inFlight : 0
  }

  /** Ends every attempt on this target. The resend layer sends their requests to other targets. */
  interrupt(error: Error): void {
    for (const request of [...this.#requests]) request.interrupt(error)
  }

  /** When the oldest request without a response was given to it, on the clock of `now()`; Infinity without one. */
  get askedAt(): number {
    return this.#oldest?.startedAt ?? Number.POSITIVE_INFINITY
  }

  add(request: InFlightRequest): void {
    request.index = this.#requests.length
    this.#requests.push(request)
    request.previousByAge = this.#newest
    if (this.#newest) this.#newest.nextByAge = request
    else this.#oldest = request
    this.#newest = request
  }

  /** The response of this request has begun. Idempotent. */
  markAnswered(request: InFlightRequest): void {
    const { previousByAge: older, nextByAge: newer } = request
    if (!older && this.#oldest !== request) return
    if (older) older.nextByAge = newer
    else this.#oldest = newer as InFlightRequest | undefined
    if (newer) newer.previousByAge = older
    else this.#newest = older as InFlightRequest | undefined
    request.previousByAge = undefined
    request.nextByAge = undefined
  }

  /** O(1): the last request moves to the index of the removed one. */
  remove(request: InFlightRequest): void {
    const { index } = request
    this.markAnswered(request)
    const last = this.#requests.pop() as InFlightRequest
    if (last.index === index) return
    last.index = index
    this.#requests[index] = last
  }
}

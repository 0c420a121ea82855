/** An instance as the data plane sees it: the one small type in which the two planes meet. */
import type { Dispatcher } from 'undici'
import type { Latency } from './balance.ts'
import { hashText } from './hash.ts'
import type { QueueEntry } from './priority-queue.ts'

/**
 * An attempt that runs on a target, as far as the target needs to know it. Its links by age were the line's while it
 * stood there; now they are the target's.
 */
export interface InFlightRequest extends QueueEntry {
  /** Its index among the passengers: the target's to write. */
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
  /** Whether it takes new requests. */
  open = true
  /** Requests that it may serve at a time. */
  slots: number
  inFlight = 0
  /** Failed attempts in a row. */
  failures = 0
  /** Attempts that it answered. */
  served = 0
  /** Round-trip times for `peak-ewma`. */
  readonly latency: Latency = { cost: 0, updatedAt: 0 }
  /** Name for TLS, where the instance speaks it. */
  readonly servername: string
  readonly #requests: InFlightRequest[] = []
  /** Those that have no answer yet, by age. */
  #oldest: InFlightRequest | undefined
  #newest: InFlightRequest | undefined

  constructor(id: string, dispatcher: Dispatcher, places: number, servername = 'localhost') {
    this.id = id
    this.hash = hashText(id)
    this.servername = servername
    this.dispatcher = dispatcher
    this.slots = places
  }

  get freeSlots(): number {
    return this.open ? this.slots - this.inFlight : 0
  }

  /** Takes every attempt that it serves away from it: they are sent again elsewhere. */
  interrupt(error: Error): void {
    for (const passenger of [...this.#requests]) passenger.interrupt(error)
  }

  /** When the request was given to it that has had no answer for the longest time; Infinity if there is none. */
  get askedAt(): number {
    return this.#oldest?.startedAt ?? Number.POSITIVE_INFINITY
  }

  add(passenger: InFlightRequest): void {
    passenger.index = this.#requests.length
    this.#requests.push(passenger)
    passenger.previousByAge = this.#newest
    if (this.#newest) this.#newest.nextByAge = passenger
    else this.#oldest = passenger
    this.#newest = passenger
  }

  /** Its answer has begun. Idempotent. */
  markAnswered(passenger: InFlightRequest): void {
    const { previousByAge: older, nextByAge: younger } = passenger
    if (!older && this.#oldest !== passenger) return
    if (older) older.nextByAge = younger
    else this.#oldest = younger as InFlightRequest | undefined
    if (younger) younger.previousByAge = older
    else this.#newest = older as InFlightRequest | undefined
    passenger.previousByAge = undefined
    passenger.nextByAge = undefined
  }

  /** O(1): the last one takes the seat. */
  remove(passenger: InFlightRequest): void {
    const { index: seat } = passenger
    this.markAnswered(passenger)
    const last = this.#requests.pop() as InFlightRequest
    if (last.index === seat) return
    last.index = seat
    this.#requests[seat] = last
  }
}

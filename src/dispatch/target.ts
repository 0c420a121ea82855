/** An instance as the data plane sees it: the one small type in which the two planes meet. */
import type { Dispatcher } from 'undici'
import type { Latency } from './balance.ts'
import { hashOf } from './hash.ts'
import type { Ticket } from './line.ts'

/**
 * An attempt that runs on a target, as far as the target needs to know it. Its links by age were the line's while it
 * stood there; now they are the target's.
 */
export interface Passenger extends Ticket {
  /** Its index among the passengers: the target's to write. */
  seat: number
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
  places: number
  inFlight = 0
  /** Failed attempts in a row. */
  failures = 0
  /** Attempts that it answered. */
  served = 0
  /** Round-trip times for `peak-ewma`. */
  readonly latency: Latency = { cost: 0, at: 0 }
  /** Name for TLS, where the instance speaks it. */
  readonly servername: string
  readonly #passengers: Passenger[] = []
  /** Those that have no answer yet, by age. */
  #eldest: Passenger | undefined
  #youngest: Passenger | undefined

  constructor(id: string, dispatcher: Dispatcher, places: number, servername = 'localhost') {
    this.id = id
    this.hash = hashOf(id)
    this.servername = servername
    this.dispatcher = dispatcher
    this.places = places
  }

  get free(): number {
    return this.open ? this.places - this.inFlight : 0
  }

  /** Takes every attempt that it serves away from it: they are sent again elsewhere. */
  interrupt(error: Error): void {
    for (const passenger of [...this.#passengers]) passenger.interrupt(error)
  }

  /** When the request was given to it that has had no answer for the longest time; Infinity if there is none. */
  get askedAt(): number {
    return this.#eldest?.startedAt ?? Number.POSITIVE_INFINITY
  }

  board(passenger: Passenger): void {
    passenger.seat = this.#passengers.length
    this.#passengers.push(passenger)
    passenger.older = this.#youngest
    if (this.#youngest) this.#youngest.younger = passenger
    else this.#eldest = passenger
    this.#youngest = passenger
  }

  /** Its answer has begun. Idempotent. */
  answered(passenger: Passenger): void {
    const { older, younger } = passenger
    if (!older && this.#eldest !== passenger) return
    if (older) older.younger = younger
    else this.#eldest = younger as Passenger | undefined
    if (younger) younger.older = older
    else this.#youngest = older as Passenger | undefined
    passenger.older = undefined
    passenger.younger = undefined
  }

  /** O(1): the last one takes the seat. */
  leave(passenger: Passenger): void {
    const { seat } = passenger
    this.answered(passenger)
    const last = this.#passengers.pop() as Passenger
    if (last.seat === seat) return
    last.seat = seat
    this.#passengers[seat] = last
  }
}

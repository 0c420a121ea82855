/** An instance as the data plane sees it: the one small type in which the two planes meet. */
import type { Dispatcher } from 'undici'
import type { Latency } from './balance.ts'

/** An attempt that runs on a target, as far as the target needs to know it. */
export interface Passenger {
  /** Its index among the passengers: the target's to write. */
  seat: number
  /** Ends the attempt at once, with the reason why its instance can no longer serve it. */
  interrupt(error: Error): void
}

export class Target {
  readonly id: string
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

  constructor(id: string, dispatcher: Dispatcher, places: number, servername = 'localhost') {
    this.id = id
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

  board(passenger: Passenger): void {
    passenger.seat = this.#passengers.length
    this.#passengers.push(passenger)
  }

  /** O(1): the last one takes the seat. */
  leave({ seat }: Passenger): void {
    const last = this.#passengers.pop() as Passenger
    if (last.seat === seat) return
    last.seat = seat
    this.#passengers[seat] = last
  }
}

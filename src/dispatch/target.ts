/** An instance as the data plane sees it: the one small type in which the two planes meet. */
import type { Dispatcher } from 'undici'
import type { Latency } from './balance.ts'

/** An attempt that runs on a target, as far as the target needs to know it. */
export interface Passenger {
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
  readonly passengers = new Set<Passenger>()

  constructor(id: string, dispatcher: Dispatcher, places: number) {
    this.id = id
    this.dispatcher = dispatcher
    this.places = places
  }

  get free(): number {
    return this.open ? this.places - this.inFlight : 0
  }

  /** Takes every attempt that it serves away from it: they are sent again elsewhere. */
  interrupt(error: Error): void {
    for (const passenger of [...this.passengers]) passenger.interrupt(error)
  }
}

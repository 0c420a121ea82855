/** So many starts a second, evenly: the next may go when its turn has come. Pure. */
/** Milliseconds by which a timer may be late. */
const LATENESS = 20

export class Pace {
  readonly #gap: number
  #next = Number.NEGATIVE_INFINITY

  /** @param rate starts a second; Infinity for no limit */
  constructor(rate: number) {
    this.#gap = 1_000 / rate
  }

  /** Milliseconds until the next may start; 0 when it may now. */
  wait(now: number): number {
    return Math.max(0, this.#next - now)
  }

  started(now: number): void {
    // A timer's lateness is made up for; what was not used is not saved up.
    this.#next = (this.#next < now - LATENESS ? now : this.#next) + this.#gap
  }
}

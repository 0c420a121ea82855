/** So many starts a second, evenly: the next may go when its turn has come. Pure. */
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
    // What was not used is not saved up, but for the lateness of a timer.
    this.#next = Math.max(now - this.#gap, this.#next) + this.#gap
    if (this.#next < now) this.#next = now
  }
}

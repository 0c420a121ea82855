/** So many starts a second, evenly: the next may go when its turn has come. Pure. */
/** Milliseconds by which a timer may be late. */
const TIMER_LATENESS_MS = 20

export class StartRateLimit {
  readonly #intervalMs: number
  #nextStartAt = Number.NEGATIVE_INFINITY

  /** @param rate starts a second; Infinity for no limit */
  constructor(rate: number) {
    this.#intervalMs = 1_000 / rate
  }

  /** Milliseconds until the next may start; 0 when it may now. */
  msUntilNext(now: number): number {
    return Math.max(0, this.#nextStartAt - now)
  }

  recordStart(now: number): void {
    // A timer's lateness is made up for; what was not used is not saved up.
    this.#nextStartAt =
      (this.#nextStartAt < now - TIMER_LATENESS_MS ? now : this.#nextStartAt) + this.#intervalMs
  }
}

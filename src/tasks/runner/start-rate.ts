/** Limits the starts of tasks to a number per second, evenly spread. Pure. */

/** Milliseconds by which a timer may be late. */
const TIMER_LATENESS_MS = 20

export class StartRateLimit {
  readonly #intervalMs: number
  #nextStartAt = Number.NEGATIVE_INFINITY

  /** @param rate starts a second; Infinity for no limit */
  constructor(rate: number) {
    this.#intervalMs = 1_000 / rate
  }

  /** Milliseconds until the next task may start; 0: now. */
  msUntilNext(now: number): number {
    return Math.max(0, this.#nextStartAt - now)
  }

  recordStart(now: number): void {
    // The next start is one interval after this one was due, so a late timer costs nothing. Unused starts are not saved.
    this.#nextStartAt =
      (this.#nextStartAt < now - TIMER_LATENESS_MS ? now : this.#nextStartAt) + this.#intervalMs
  }
}

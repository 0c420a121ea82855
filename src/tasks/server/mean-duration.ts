/** The mean time of recent tasks: each new one counts for a twentieth. */

const WEIGHT = 0.05

export class MeanDuration {
  #ms: number | null = null

  /** In milliseconds; `null` before the first task. */
  get ms(): number | null {
    return this.#ms
  }

  add(ms: number): void {
    this.#ms = this.#ms === null ? ms : this.#ms * (1 - WEIGHT) + ms * WEIGHT
  }
}

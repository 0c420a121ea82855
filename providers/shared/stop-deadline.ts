/** The time that an ending instance is left for its own: it starts with the first `stop` and only ever gets shorter. */
import { after, now, type Timer } from '../../src/core/time.ts'

export class StopDeadline {
  readonly #onExpired: () => void
  #timer: Timer | undefined
  #deadline = Number.POSITIVE_INFINITY

  constructor(onOver: () => void) {
    this.#onExpired = onOver
  }

  /** Ends `ms` from now at the latest. With 0 it is over before this returns. */
  shorten(ms: number): void {
    const deadline = now() + ms
    if (deadline >= this.#deadline) return
    this.#deadline = deadline
    this.#timer?.clear()
    if (ms <= 0) this.#onExpired()
    else this.#timer = after(ms, this.#onExpired)
  }

  /** What was waited for has happened. */
  cancel(): void {
    this.#deadline = Number.NEGATIVE_INFINITY
    this.#timer?.clear()
  }
}

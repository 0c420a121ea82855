/** The time that an instance has to stop by itself. It begins with the first `stop`, and a later `stop` can only shorten it. */
import { after, now, type Timer } from '../../src/core/time.ts'

export class StopDeadline {
  readonly #onExpired: () => void
  #timer: Timer | undefined
  #deadline = Number.POSITIVE_INFINITY

  constructor(onExpired: () => void) {
    this.#onExpired = onExpired
  }

  /** Sets the deadline to `ms` from now, unless it is earlier already. With 0 it expires before this returns. */
  shorten(ms: number): void {
    const deadline = now() + ms
    if (deadline >= this.#deadline) return
    this.#deadline = deadline
    this.#timer?.clear()
    if (ms <= 0) this.#onExpired()
    else this.#timer = after(ms, this.#onExpired)
  }

  /** The instance has stopped: the deadline never expires. */
  cancel(): void {
    this.#deadline = Number.NEGATIVE_INFINITY
    this.#timer?.clear()
  }
}

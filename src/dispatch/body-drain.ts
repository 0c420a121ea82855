/**
 * Bounds a body that is read for nobody, so that the connection can be used again: a redirect's, or that of an answer by which an
 * instance hands a request back. A connection is not worth more than that.
 */
import { after, type Timer } from '../core/time.ts'

/** Bytes that are read at most. */
const MAX_BYTES = 65_536

/** Milliseconds that it may take. */
const MAX_DURATION = 1_000

export class BodyDrain {
  readonly #cut: () => void
  #bytes = 0
  #timer: Timer | undefined
  #isOver = false

  /** @param cut called once, where the body is longer or takes longer */
  constructor(cut: () => void) {
    this.#cut = cut
  }

  /** The body has not come at once: its time begins. */
  start(): void {
    if (!this.#isOver) this.#timer ??= after(MAX_DURATION, () => this.#end())
  }

  count(bytes: number): void {
    this.#bytes += bytes
    if (this.#bytes > MAX_BYTES) this.#end()
  }

  /** The body has ended by itself. */
  stop(): void {
    this.#isOver = true
    this.#timer?.clear()
  }

  #end(): void {
    if (this.#isOver) return
    this.stop()
    this.#cut()
  }
}

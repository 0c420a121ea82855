/**
 * Bounds the reading of a body that no one needs: of a redirect, or of a response by which an instance hands a request
 * back. Reading it to its end keeps the connection usable. Beyond these limits a new connection is cheaper.
 */
import { after, type Timer } from '../core/time.ts'

/** Bytes that are read at most. */
const MAX_BYTES = 65_536

/** Milliseconds that the reading may take. */
const MAX_DURATION = 1_000

export class BodyDrain {
  readonly #cut: () => void
  #bytes = 0
  #timer: Timer | undefined
  #isOver = false

  /** @param cut called once if the body is longer or takes longer */
  constructor(cut: () => void) {
    this.#cut = cut
  }

  /** Starts the time limit: the body did not come together with the head. */
  start(): void {
    if (!this.#isOver) this.#timer ??= after(MAX_DURATION, () => this.#end())
  }

  count(bytes: number): void {
    this.#bytes += bytes
    if (this.#bytes > MAX_BYTES) this.#end()
  }

  /** The body has ended. */
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

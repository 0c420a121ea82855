/** Frames that wait for a connection: bounded in bytes; dropped frames are counted. */
import { Fifo } from '../core/fifo.ts'

/** Which frame is dropped when the limit is reached; with 'error' the new one is refused. */
export type DropPolicy = 'oldest' | 'newest' | 'error'

export class FeedOutbox {
  readonly #limit: number
  readonly #drop: DropPolicy
  readonly #frames = new Fifo<Buffer>()
  #bytes = 0

  /** @param limit bytes */
  constructor(limit: number, drop: DropPolicy) {
    this.#limit = limit
    this.#drop = drop
  }

  get size(): number {
    return this.#frames.size
  }

  get bytes(): number {
    return this.#bytes
  }

  /** @returns how many frames were dropped, the new one included; undefined if the new one is refused */
  put(frame: Buffer): number | undefined {
    let dropped = 0
    if (this.#bytes + frame.length > this.#limit) {
      if (this.#drop === 'error') return undefined
      if (this.#drop === 'newest' || frame.length > this.#limit) return 1
      while (this.#bytes + frame.length > this.#limit) {
        this.take()
        dropped++
      }
    }
    this.#frames.push(frame)
    this.#bytes += frame.length
    return dropped
  }

  /** Removes the oldest frame, and returns it. */
  take(): Buffer | undefined {
    const frame = this.#frames.shift()
    if (frame) this.#bytes -= frame.length
    return frame
  }

  /**
   * Puts frames that were taken, and did not reach a broker, before all that wait.
   * @returns how many frames were dropped
   */
  putBack(frames: readonly Buffer[]): number {
    const waiting = [...this.#frames]
    this.clear()
    let dropped = 0
    for (const frame of [...frames, ...waiting]) dropped += this.put(frame) ?? 1
    return dropped
  }

  /** @returns how many frames there were */
  clear(): number {
    const { size } = this
    this.#frames.clear()
    this.#bytes = 0
    return size
  }
}

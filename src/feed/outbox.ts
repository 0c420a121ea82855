/** Frames that wait for a connection: bounded in bytes; what is dropped is counted. */

export type DropPolicy = 'oldest' | 'newest' | 'error'

export class FeedOutbox {
  readonly #limit: number
  readonly #drop: DropPolicy
  #frames: (Buffer | undefined)[] = []
  #head = 0
  #bytes = 0

  constructor(limit: number, drop: DropPolicy) {
    this.#limit = limit
    this.#drop = drop
  }

  get size(): number {
    return this.#frames.length - this.#head
  }

  get bytes(): number {
    return this.#bytes
  }

  /** How many were dropped for it, itself included; undefined where it is refused. */
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

  /** The oldest frame, which is no longer here then. */
  take(): Buffer | undefined {
    const frame = this.#frames[this.#head]
    if (!frame) return undefined
    this.#frames[this.#head++] = undefined
    this.#bytes -= frame.length
    if (this.#head >= 1_024 && this.#head * 2 >= this.#frames.length) {
      this.#frames = this.#frames.slice(this.#head)
      this.#head = 0
    }
    return frame
  }

  /** Puts these before all that wait: they had been taken, and got nowhere. How many were dropped for it. */
  putBack(frames: readonly Buffer[]): number {
    const waiting = this.#frames.slice(this.#head) as Buffer[]
    this.clear()
    let dropped = 0
    for (const frame of [...frames, ...waiting]) dropped += this.put(frame) ?? 1
    return dropped
  }

  /** Empties it. How many there were. */
  clear(): number {
    const { size } = this
    this.#frames = []
    this.#head = 0
    this.#bytes = 0
    return size
  }
}

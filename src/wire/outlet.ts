/** The way out: packets of one turn of the event loop go in one write, blobs as they are. */
import type { Duplex } from 'node:stream'
import { BLOB, packet } from './frames.ts'

/** Text beyond this is written without waiting for the end of the turn. */
const BATCH = 65_536
/** Blobs are cut into pieces of this size, so that beats come between them and memory is bounded. */
export const PIECE = 1_048_576

export class Outlet {
  /** Whether blobs go in packets, as between two manyhost peers. */
  isFramed = false
  /** Packets and bytes so far. */
  packets = 0
  bytes = 0
  readonly #socket: Duplex
  readonly #high: number
  readonly #onFlow: () => void
  #text = ''
  #isScheduled = false
  #isFull = false
  #isEnded = false
  #waiters: (() => void)[] = []

  constructor(socket: Duplex, high: number, onFlow: () => void) {
    this.#socket = socket
    this.#high = high
    this.#onFlow = onFlow
    socket.on('drain', this.#drained)
  }

  /** Whether so much waits for the peer to read that no more should be made. */
  get isFull(): boolean {
    return this.#isFull
  }

  /** Bytes that left this process so far. */
  get flushed(): number {
    return this.bytes - this.#text.length - this.#socket.writableLength
  }

  get isIdle(): boolean {
    return this.#text === '' && this.#socket.writableLength === 0
  }

  packet(dir: string, text: string): void {
    if (this.#isEnded) return
    this.packets++
    this.#text += packet(dir, text)
    if (this.#text.length > BATCH) this.flush()
    else if (!this.#isScheduled) {
      this.#isScheduled = true
      process.nextTick(() => this.flush())
    }
  }

  /** One piece of a blob; nothing is copied. */
  blob(bytes: Uint8Array): void {
    if (bytes.length === 0 || this.#isEnded) return
    if (this.isFramed) {
      this.packets++
      this.#text += `[${bytes.length}#${BLOB}]`
    }
    this.#socket.cork()
    this.flush()
    this.bytes += bytes.length
    this.#socket.write(bytes)
    this.#socket.uncork()
    this.#look()
  }

  flush(): void {
    this.#isScheduled = false
    if (this.#text === '') return
    const text = this.#text
    this.#text = ''
    if (this.#isEnded) return
    const bytes = Buffer.from(text)
    this.bytes += bytes.length
    this.#socket.write(bytes)
    this.#look()
  }

  /** A promise while the way is full, undefined while it flows. */
  flowing(): Promise<void> | undefined {
    if (!this.#isFull) return undefined
    return new Promise((go) => this.#waiters.push(go))
  }

  /** Nothing is written any more; those who wait go on, and find the link ended. */
  end(): void {
    this.#isEnded = true
    this.#text = ''
    // A connection that was handed over outlives its link by far, and is not to keep all of it in memory.
    this.#socket.off('drain', this.#drained)
    this.#drained()
  }

  #look(): void {
    if (this.#socket.writableLength > this.#high && this.#socket.writableNeedDrain)
      this.#isFull = true
  }

  readonly #drained = (): void => {
    if (!this.#isFull) return
    this.#isFull = false
    for (const go of this.#waiters.splice(0)) go()
    this.#onFlow()
  }
}

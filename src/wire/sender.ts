/** The way out: packets of one turn of the event loop go in one write, blobs as they are. */
import type { Duplex } from 'node:stream'
import { BLOB_DIRECTION, formatPacket } from './frames.ts'

/** Text beyond this is written without waiting for the end of the turn. */
const MAX_BATCH_LENGTH = 65_536
/** Blobs are cut into pieces of this size, so that beats come between them and memory is bounded. */
export const BLOB_PIECE_BYTES = 1_048_576

export class PacketSender {
  /** Whether blobs go in packets, as between two manyhost peers. */
  isFramed = false
  /** Packets and bytes so far. */
  packetCount = 0
  sentBytes = 0
  readonly #socket: Duplex
  readonly #highWaterMark: number
  readonly #onDrain: () => void
  #text = ''
  #isScheduled = false
  #isFull = false
  #isEnded = false
  #waiters: (() => void)[] = []

  constructor(socket: Duplex, high: number, onFlow: () => void) {
    this.#socket = socket
    this.#highWaterMark = high
    this.#onDrain = onFlow
    socket.on('drain', this.#onSocketDrain)
  }

  /** Whether so much waits for the peer to read that no more should be made. */
  get isFull(): boolean {
    return this.#isFull
  }

  /** Bytes that left this process so far. */
  get flushedBytes(): number {
    return this.sentBytes - this.#text.length - this.#socket.writableLength
  }

  get isIdle(): boolean {
    return this.#text === '' && this.#socket.writableLength === 0
  }

  sendPacket(dir: string, text: string): void {
    if (this.#isEnded) return
    this.packetCount++
    this.#text += formatPacket(dir, text)
    if (this.#text.length > MAX_BATCH_LENGTH) this.flush()
    else if (!this.#isScheduled) {
      this.#isScheduled = true
      process.nextTick(() => this.flush())
    }
  }

  /** One piece of a blob; nothing is copied. */
  sendBlobPiece(bytes: Uint8Array): void {
    if (bytes.length === 0 || this.#isEnded) return
    if (this.isFramed) {
      this.packetCount++
      this.#text += `[${bytes.length}#${BLOB_DIRECTION}]`
    }
    this.#socket.cork()
    this.flush()
    this.sentBytes += bytes.length
    this.#socket.write(bytes)
    this.#socket.uncork()
    this.#updateFull()
  }

  flush(): void {
    this.#isScheduled = false
    if (this.#text === '') return
    const text = this.#text
    this.#text = ''
    if (this.#isEnded) return
    const bytes = Buffer.from(text)
    this.sentBytes += bytes.length
    this.#socket.write(bytes)
    this.#updateFull()
  }

  /** A promise while the way is full, undefined while it flows. */
  waitForDrain(): Promise<void> | undefined {
    if (!this.#isFull) return undefined
    return new Promise((go) => this.#waiters.push(go))
  }

  /** Nothing is written any more; those who wait go on, and find the link ended. */
  stop(): void {
    this.#isEnded = true
    this.#text = ''
    // A connection that was handed over outlives its link by far, and is not to keep all of it in memory.
    this.#socket.off('drain', this.#onSocketDrain)
    this.#onSocketDrain()
  }

  #updateFull(): void {
    if (this.#socket.writableLength > this.#highWaterMark && this.#socket.writableNeedDrain)
      this.#isFull = true
  }

  readonly #onSocketDrain = (): void => {
    if (!this.#isFull) return
    this.#isFull = false
    for (const go of this.#waiters.splice(0)) go()
    this.#onDrain()
  }
}

/** Sends packets and blobs. The packets of one turn of the event loop are sent in one write. */
import type { Duplex } from 'node:stream'
import { BLOB_DIRECTION, formatPacket } from './frames.ts'

/** A longer batch is written without waiting for the end of the turn, in characters. */
const MAX_BATCH_LENGTH = 65_536
/** Blobs are cut into pieces of this size, so that beats can be sent between them, and memory is bounded. */
export const BLOB_PIECE_BYTES = 1_048_576

export class PacketSender {
  /** Whether blobs are sent in packets, as between two manyhost peers. */
  isFramed = false
  /** Packets and bytes that were sent since the link began. */
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

  constructor(socket: Duplex, highWaterMark: number, onDrain: () => void) {
    this.#socket = socket
    this.#highWaterMark = highWaterMark
    this.#onDrain = onDrain
    socket.on('drain', this.#onSocketDrain)
  }

  /** Whether so many bytes wait for the peer that no more should be sent. */
  get isFull(): boolean {
    return this.#isFull
  }

  /** Bytes that the system has taken since the link began. */
  get flushedBytes(): number {
    return this.sentBytes - this.#text.length - this.#socket.writableLength
  }

  get isIdle(): boolean {
    return this.#text === '' && this.#socket.writableLength === 0
  }

  sendPacket(direction: string, text: string): void {
    if (this.#isEnded) return
    this.packetCount++
    this.#text += formatPacket(direction, text)
    if (this.#text.length > MAX_BATCH_LENGTH) this.flush()
    else if (!this.#isScheduled) {
      this.#isScheduled = true
      process.nextTick(() => this.flush())
    }
  }

  /** Sends one piece of a blob, without copying it. */
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

  /** A promise of the next drain while the sender is full; undefined if more may be sent now. */
  waitForDrain(): Promise<void> | undefined {
    if (!this.#isFull) return undefined
    return new Promise((resolve) => this.#waiters.push(resolve))
  }

  /** Sends nothing any more. Callers that wait for a drain go on, and find that the link has ended. */
  stop(): void {
    this.#isEnded = true
    this.#text = ''
    // A released connection can live much longer than its link: it must not keep the link in memory.
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
    for (const resume of this.#waiters.splice(0)) resume()
    this.#onDrain()
  }
}

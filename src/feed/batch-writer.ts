/** Writes to a socket in batches: what is pushed within one turn of the event loop goes out in one write. */
import type { Socket } from 'node:net'

/** A batch above this is written at once, and its parts are not always copied together. */
const MAX_BATCH_BYTES = 65_536

export class BatchWriter {
  readonly #socket: Socket
  readonly #onWritten: ((bytes: number, messages: number, failed: boolean) => void) | undefined
  #batch: Uint8Array[] = []
  #batchBytes = 0
  #batchMessages = 0
  #inFlightBytes = 0

  /** Calls `onWritten` for each batch that the system took, or that was lost with the connection. */
  constructor(
    socket: Socket,
    onWritten?: (bytes: number, messages: number, failed: boolean) => void,
  ) {
    this.#socket = socket
    this.#onWritten = onWritten
  }

  /** Bytes that the system has not taken yet. */
  get pendingBytes(): number {
    return this.#batchBytes + this.#inFlightBytes
  }

  /**
   * @param bytes must not be changed any more
   * @param messages how many messages are in these bytes
   */
  push(bytes: Uint8Array, messages = 0): void {
    this.#batch.push(bytes)
    this.#batchBytes += bytes.length
    this.#batchMessages += messages
    if (this.#batch.length === 1) process.nextTick(flushWriter, this)
    if (this.#batchBytes >= MAX_BATCH_BYTES) this.flush()
  }

  flush(): void {
    const batch = this.#batch
    if (batch.length === 0) return
    const bytes = this.#batchBytes
    const messages = this.#batchMessages
    this.#batch = []
    this.#batchBytes = 0
    this.#batchMessages = 0
    this.#inFlightBytes += bytes
    const done = (error?: Error | null): void => {
      this.#inFlightBytes -= bytes
      this.#onWritten?.(bytes, messages, Boolean(error))
    }
    const last = batch.pop() as Uint8Array
    if (batch.length === 0) this.#socket.write(last, done)
    else if (bytes <= 4 * MAX_BATCH_BYTES)
      this.#socket.write(Buffer.concat([...batch, last], bytes), done)
    else {
      this.#socket.cork()
      for (const part of batch) this.#socket.write(part)
      this.#socket.write(last, done)
      this.#socket.uncork()
    }
  }
}

function flushWriter(writer: BatchWriter): void {
  writer.flush()
}

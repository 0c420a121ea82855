/** Bytes on their way out of a connection: what comes within one turn of the program goes out in one write. */
import type { Socket } from 'node:net'

/** Above this a batch does not wait for the end of the turn, nor is it copied together. */
const BATCH = 65_536

export class Writer {
  readonly #socket: Socket
  readonly #onWritten: ((bytes: number, messages: number, failed: boolean) => void) | undefined
  #batch: Uint8Array[] = []
  #bytes = 0
  #messages = 0
  #flying = 0

  /** Tells `onWritten` of each batch that the system took, or that was lost with the connection. */
  constructor(
    socket: Socket,
    onWritten?: (bytes: number, messages: number, failed: boolean) => void,
  ) {
    this.#socket = socket
    this.#onWritten = onWritten
  }

  /** Bytes that the system has not taken yet. */
  get pending(): number {
    return this.#bytes + this.#flying
  }

  /** `messages` is how many there are in these bytes, which must not be changed any more. */
  push(bytes: Uint8Array, messages = 0): void {
    this.#batch.push(bytes)
    this.#bytes += bytes.length
    this.#messages += messages
    if (this.#batch.length === 1) process.nextTick(flush, this)
    if (this.#bytes >= BATCH) this.flush()
  }

  flush(): void {
    const batch = this.#batch
    if (batch.length === 0) return
    const bytes = this.#bytes
    const messages = this.#messages
    this.#batch = []
    this.#bytes = 0
    this.#messages = 0
    this.#flying += bytes
    const done = (error?: Error | null): void => {
      this.#flying -= bytes
      this.#onWritten?.(bytes, messages, Boolean(error))
    }
    const last = batch.pop() as Uint8Array
    if (batch.length === 0) this.#socket.write(last, done)
    else if (bytes <= 4 * BATCH) this.#socket.write(Buffer.concat([...batch, last], bytes), done)
    else {
      this.#socket.cork()
      for (const one of batch) this.#socket.write(one)
      this.#socket.write(last, done)
      this.#socket.uncork()
    }
  }
}

function flush(writer: Writer): void {
  writer.flush()
}

/** Messages that have arrived and were not read yet, in the order of their arrival. Bounded in bytes. */
import { type Deferred, deferred } from '../core/deferred.ts'
import { Fifo } from '../core/fifo.ts'

export interface FeedMessage {
  /** The publisher: the broker lets nobody publish under another ident. */
  readonly ident: string
  readonly channel: string
  /** A view into a received chunk: copy it if you keep it for long. */
  readonly payload: Buffer
}

/** What a message costs beside its payload, in bytes, roughly. */
const MESSAGE_OVERHEAD_BYTES = 128

export class Inbox {
  readonly #limit: number
  readonly #onHalfFree: () => void
  readonly #messages = new Fifo<FeedMessage>()
  #bytes = 0
  #isFull = false
  readonly #waiters: Deferred<FeedMessage | undefined>[] = []
  #end: { readonly error?: Error } | undefined

  /**
   * @param limit bytes
   * @param onHalfFree called when the inbox was full, and half of it is free again
   */
  constructor(limit: number, onHalfFree: () => void) {
    this.#limit = limit
    this.#onHalfFree = onHalfFree
  }

  get size(): number {
    return this.#messages.size
  }

  /** Whether nothing more should be put in for now. */
  get isFull(): boolean {
    return this.#isFull
  }

  put(message: FeedMessage): void {
    if (this.#end) return
    const waiter = this.#waiters.shift()
    if (waiter) {
      waiter.resolve(message)
      return
    }
    this.#messages.push(message)
    this.#bytes += message.payload.length + MESSAGE_OVERHEAD_BYTES
    if (this.#bytes >= this.#limit) this.#isFull = true
  }

  /** The next message, if one has arrived already. */
  take(): FeedMessage | undefined {
    const message = this.#messages.shift()
    if (message) this.#releaseBytes(message.payload.length + MESSAGE_OVERHEAD_BYTES)
    return message
  }

  /** The next message; undefined after an end without an error. Rejects after an end with an error. */
  next(): Promise<FeedMessage | undefined> {
    const message = this.take()
    if (message) return Promise.resolve(message)
    if (this.#end) {
      const { error } = this.#end
      return error ? Promise.reject(error) : Promise.resolve(undefined)
    }
    const waiter = deferred<FeedMessage | undefined>()
    this.#waiters.push(waiter)
    return waiter.promise
  }

  #releaseBytes(bytes: number): void {
    this.#bytes -= bytes
    if (this.#isFull && this.#bytes <= this.#limit / 2) {
      this.#isFull = false
      this.#onHalfFree()
    }
  }

  /**
   * No message follows. With an error, the messages that have arrived can still be read, and the reads after them reject.
   * Without an error, the messages that have arrived are dropped.
   */
  end(error?: Error): void {
    if (this.#end && (error || !this.#end.error)) return
    this.#end = error ? { error } : {}
    if (!error) {
      this.#messages.clear()
      this.#bytes = 0
    }
    for (const waiter of this.#waiters.splice(0)) {
      if (error) waiter.reject(error)
      else waiter.resolve(undefined)
    }
  }
}

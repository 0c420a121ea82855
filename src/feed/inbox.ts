/** What has come and was not read yet: bounded, in the order in which it came. */

export interface FeedMessage {
  /** Who published it: the broker holds publishers to their own name. */
  readonly ident: string
  readonly channel: string
  /** A view of what came: copy what is to be kept for long. */
  readonly payload: Buffer
}

interface InboxWaiter {
  take(message: FeedMessage | undefined): void
  fail(error: Error): void
}

/** What a message costs beside its payload, in bytes, roughly. */
const MESSAGE_OVERHEAD_BYTES = 128

export class Inbox {
  readonly #limit: number
  readonly #onHalfFree: () => void
  #messages: (FeedMessage | undefined)[] = []
  #head = 0
  #bytes = 0
  #isFull = false
  readonly #waiters: InboxWaiter[] = []
  #end: { readonly error?: Error } | undefined

  /** `onRoom` is called when it was full, and half of it is free again. */
  constructor(limit: number, onRoom: () => void) {
    this.#limit = limit
    this.#onHalfFree = onRoom
  }

  get size(): number {
    return this.#messages.length - this.#head
  }

  /** Whether nothing more should be put in for now. */
  get isFull(): boolean {
    return this.#isFull
  }

  put(message: FeedMessage): void {
    if (this.#end) return
    const waiter = this.#waiters.shift()
    if (waiter) {
      waiter.take(message)
      return
    }
    this.#messages.push(message)
    this.#bytes += message.payload.length + MESSAGE_OVERHEAD_BYTES
    if (this.#bytes >= this.#limit) this.#isFull = true
  }

  /** The next message, if there is one already. */
  take(): FeedMessage | undefined {
    const message = this.#messages[this.#head]
    if (message) this.#removeHead(message)
    return message
  }

  /** The next message; undefined at the end, where the end is no failure. */
  next(): Promise<FeedMessage | undefined> {
    const message = this.take()
    if (message) return Promise.resolve(message)
    if (this.#end) {
      const { error } = this.#end
      return error ? Promise.reject(error) : Promise.resolve(undefined)
    }
    return new Promise((take, fail) => this.#waiters.push({ take, fail }))
  }

  #removeHead({ payload }: FeedMessage): void {
    this.#messages[this.#head++] = undefined
    if (this.#head >= 1_024 && this.#head * 2 >= this.#messages.length) {
      this.#messages = this.#messages.slice(this.#head)
      this.#head = 0
    }
    this.#bytes -= payload.length + MESSAGE_OVERHEAD_BYTES
    if (this.#isFull && this.#bytes <= this.#limit / 2) {
      this.#isFull = false
      this.#onHalfFree()
    }
  }

  /** Nothing more comes. With an error what has come can still be read, and then the error; without, nothing. */
  end(error?: Error): void {
    if (this.#end && (error || !this.#end.error)) return
    this.#end = error ? { error } : {}
    if (!error) {
      this.#messages = []
      this.#head = 0
      this.#bytes = 0
    }
    for (const waiter of this.#waiters.splice(0)) {
      if (error) waiter.fail(error)
      else waiter.take(undefined)
    }
  }
}

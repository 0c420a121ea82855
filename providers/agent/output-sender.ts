/** What an instance writes, on its way to the hub: kept while the link is slow or gone, up to a bound. */

/** Most characters that wait. */
const MAX_WAITING_LENGTH = 262_144
/** Characters of one message. */
const MESSAGE_LENGTH = 65_536

export class AgentOutputSender {
  readonly #send: (text: string) => Promise<void>
  #pending = ''
  #lostLength = 0
  #sending: Promise<void> | undefined

  /** @param send resolves when more may be sent; rejects while there is no link, and is tried again by `flush` */
  constructor(send: (text: string) => Promise<void>) {
    this.#send = send
  }

  add(text: string): void {
    this.#pending += text
    if (this.#pending.length > MAX_WAITING_LENGTH) {
      // The newest says most of why something failed.
      const cut = this.#pending.length - MAX_WAITING_LENGTH / 2
      this.#lostLength += cut
      this.#pending = this.#pending.slice(cut)
    }
    void this.flush()
  }

  /** Resolves when all is sent, or cannot be for now. */
  flush(): Promise<void> {
    this.#sending ??= this.#sendAll().finally(() => {
      this.#sending = undefined
    })
    return this.#sending
  }

  async #sendAll(): Promise<void> {
    while (this.#pending !== '' || this.#lostLength > 0) {
      const lost = this.#lostLength
      const note = lost > 0 ? `\nmanyhost: ${lost} characters were not sent\n` : ''
      const piece = this.#pending.slice(0, MESSAGE_LENGTH)
      this.#pending = this.#pending.slice(MESSAGE_LENGTH)
      this.#lostLength = 0
      try {
        await this.#send(note + piece)
      } catch {
        this.#pending = piece + this.#pending
        this.#lostLength += lost
        return
      }
    }
  }
}

/** Sends the output of an instance to the hub. While the link is slow or away, the output is kept, up to a limit. */

/** Characters that may wait. Beyond that, the oldest are dropped. */
const MAX_WAITING_LENGTH = 262_144
/** Longest message, in characters. */
const MESSAGE_LENGTH = 65_536

export class AgentOutputSender {
  readonly #send: (text: string) => Promise<void>
  #pending = ''
  #lostLength = 0
  #sending: Promise<void> | undefined

  /** @param send resolves when more may be sent. Rejects while there is no link; `flush` tries again. */
  constructor(send: (text: string) => Promise<void>) {
    this.#send = send
  }

  add(text: string): void {
    this.#pending += text
    if (this.#pending.length > MAX_WAITING_LENGTH) {
      // The newest output says best why an instance has failed.
      const cut = this.#pending.length - MAX_WAITING_LENGTH / 2
      this.#lostLength += cut
      this.#pending = this.#pending.slice(cut)
    }
    void this.flush()
  }

  /** Resolves when all output was sent, or cannot be sent now. */
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

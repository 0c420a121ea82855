/** What an instance writes, on its way to the hub: kept while the link is slow or gone, up to a bound. */

/** Most characters that wait. */
const MOST = 262_144
/** Characters of one message. */
const PIECE = 65_536

export class Outflow {
  readonly #send: (text: string) => Promise<void>
  #waiting = ''
  #lost = 0
  #flowing: Promise<void> | undefined

  /** @param send resolves when more may be sent; rejects while there is no link, and is tried again by `flush` */
  constructor(send: (text: string) => Promise<void>) {
    this.#send = send
  }

  add(text: string): void {
    this.#waiting += text
    if (this.#waiting.length > MOST) {
      // The newest says most of why something failed.
      const cut = this.#waiting.length - MOST / 2
      this.#lost += cut
      this.#waiting = this.#waiting.slice(cut)
    }
    void this.flush()
  }

  /** Resolves when all is sent, or cannot be for now. */
  flush(): Promise<void> {
    this.#flowing ??= this.#flow().finally(() => {
      this.#flowing = undefined
    })
    return this.#flowing
  }

  async #flow(): Promise<void> {
    while (this.#waiting !== '' || this.#lost > 0) {
      const lost = this.#lost
      const note = lost > 0 ? `\nmanyhost: ${lost} characters were not sent\n` : ''
      const piece = this.#waiting.slice(0, PIECE)
      this.#waiting = this.#waiting.slice(PIECE)
      this.#lost = 0
      try {
        await this.#send(note + piece)
      } catch {
        this.#waiting = piece + this.#waiting
        this.#lost += lost
        return
      }
    }
  }
}

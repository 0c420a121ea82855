/** The end of what somebody wrote: bounded, whatever is written. */

/** Characters that are kept an instance. */
const LIMIT = 65_536

export class Tail {
  readonly #chunks: string[] = []
  #length = 0

  append(chunk: string): void {
    const part = chunk.length > LIMIT ? chunk.slice(-LIMIT) : chunk
    this.#chunks.push(part)
    this.#length += part.length
    while (this.#length - (this.#chunks[0]?.length ?? 0) >= LIMIT) {
      this.#length -= this.#chunks.shift()?.length ?? 0
    }
    // Many small writes: join them before their number costs more than their text.
    if (this.#chunks.length > 512) this.#chunks.splice(0, this.#chunks.length, this.text())
  }

  /** The last 64 KiB. */
  text(): string {
    return this.#chunks.join('').slice(-LIMIT)
  }

  /** The last lines, for an error's message. */
  lines(count: number): string {
    return this.text().trimEnd().split('\n').slice(-count).join('\n')
  }
}

/** The end of what somebody wrote: bounded, whatever is written. */

/** Characters that are kept an instance. */
const MAX_CHARACTERS = 65_536

export class InstanceOutput {
  readonly #followers = new Set<(chunk: string) => void>()
  readonly #chunks: string[] = []
  #length = 0

  /** Tells what comes from now on; the function that is returned ends it. */
  follow(follower: (chunk: string) => void): () => void {
    this.#followers.add(follower)
    return () => void this.#followers.delete(follower)
  }

  append(chunk: string): void {
    for (const follower of this.#followers) follower(chunk)
    const part = chunk.length > MAX_CHARACTERS ? chunk.slice(-MAX_CHARACTERS) : chunk
    this.#chunks.push(part)
    this.#length += part.length
    while (this.#length - (this.#chunks[0]?.length ?? 0) >= MAX_CHARACTERS) {
      this.#length -= this.#chunks.shift()?.length ?? 0
    }
    // Many small writes: join them before their number costs more than their text.
    if (this.#chunks.length > 512) this.#join()
  }

  #join(): void {
    const text = this.text()
    this.#chunks.splice(0, this.#chunks.length, text)
    this.#length = text.length
  }

  /** The last 64 KiB. */
  text(): string {
    return this.#chunks.join('').slice(-MAX_CHARACTERS)
  }

  /** The last lines, for an error's message. */
  lines(count: number): string {
    return this.text().trimEnd().split('\n').slice(-count).join('\n')
  }
}

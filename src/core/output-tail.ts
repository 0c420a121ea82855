/** The last characters of an output that may have no end, in bounded memory. */

/** Pieces that are kept before they are joined: the memory of very many small strings would exceed that of their text. */
const MAX_CHUNKS = 512

export class OutputTail {
  readonly #limit: number
  readonly #followers = new Set<(chunk: string) => void>()
  readonly #chunks: string[] = []
  #length = 0

  /** @param limit characters that are kept */
  constructor(limit: number) {
    this.#limit = limit
  }

  /**
   * Calls `follower` with each chunk from now on, in full.
   * @returns a function that ends this
   */
  follow(follower: (chunk: string) => void): () => void {
    this.#followers.add(follower)
    return () => void this.#followers.delete(follower)
  }

  append(chunk: string): void {
    for (const follower of this.#followers) follower(chunk)
    const kept = chunk.length > this.#limit ? chunk.slice(-this.#limit) : chunk
    this.#chunks.push(kept)
    this.#length += kept.length
    while (this.#length - (this.#chunks[0]?.length ?? 0) >= this.#limit) {
      this.#length -= this.#chunks.shift()?.length ?? 0
    }
    if (this.#chunks.length > MAX_CHUNKS) this.#joinChunks()
  }

  #joinChunks(): void {
    const text = this.text()
    this.#chunks.splice(0, this.#chunks.length, text)
    this.#length = text.length
  }

  /** The last `limit` characters. */
  text(): string {
    return this.#chunks.join('').slice(-this.#limit)
  }

  /** The last `count` lines, for the message of an error. Empty lines at the end do not count. */
  lastLines(count: number): string {
    return this.text().trimEnd().split('\n').slice(-count).join('\n')
  }
}

/** A first-in, first-out queue. `Array.shift` of a long array copies it; this one moves an index. */

/** Taken entries are dropped from the array when they are at least this many, and more than half of it. */
const COMPACT_FROM = 64

/** All operations take constant time, amortized. */
export class Fifo<T> {
  #entries: (T | undefined)[] = []
  /** Index of the first entry; those before it were taken. */
  #head = 0

  get size(): number {
    return this.#entries.length - this.#head
  }

  push(entry: T): void {
    this.#entries.push(entry)
  }

  /** The oldest entry, which stays. */
  peek(): T | undefined {
    return this.#entries[this.#head]
  }

  /** Takes the oldest entry; undefined if there is none. */
  shift(): T | undefined {
    const entry = this.#entries[this.#head]
    if (this.#head === this.#entries.length) return undefined
    // So that the array does not keep it alive.
    this.#entries[this.#head++] = undefined
    if (this.#head === this.#entries.length) {
      this.#entries.length = 0
      this.#head = 0
    } else if (this.#head >= COMPACT_FROM && this.#head * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head)
      this.#head = 0
    }
    return entry
  }

  clear(): void {
    this.#entries = []
    this.#head = 0
  }

  /** From the oldest to the newest. The queue must not be changed meanwhile. */
  *[Symbol.iterator](): IterableIterator<T> {
    for (let at = this.#head; at < this.#entries.length; at++) yield this.#entries[at] as T
  }
}

/** Numbers of posting conversations: 101 to 9,999,999 and round again, none twice among those under way. */
const FIRST = 101
const LAST = 9_999_999

export class Numbers {
  #next: number

  constructor(first = FIRST) {
    this.#next = first
  }

  next(taken: { has(coSeq: string): boolean }): string {
    for (;;) {
      const coSeq = String(this.#next)
      this.#next = this.#next === LAST ? FIRST : this.#next + 1
      if (!taken.has(coSeq)) return coSeq
    }
  }
}

/** The numbers of posted conversations: from 101 to 9,999,999, then from 101 again. A number in use is skipped. */
const MIN_NUMBER = 101
const MAX_NUMBER = 9_999_999

export class ConversationNumbers {
  #next: number

  constructor(first = MIN_NUMBER) {
    this.#next = first
  }

  takeNext(taken: { has(coSeq: string): boolean }): string {
    for (;;) {
      const coSeq = String(this.#next)
      this.#next = this.#next === MAX_NUMBER ? MIN_NUMBER : this.#next + 1
      if (!taken.has(coSeq)) return coSeq
    }
  }
}

/** Nodes that have failed, for a while. */

/** Above it the oldest are forgotten. */
const MOST = 1_000

export class Avoided {
  readonly #ms: number
  /** By node, oldest first: until when. */
  readonly #until = new Map<string, number>()

  /** @param ms for how long one is avoided; 0: none is */
  constructor(ms: number) {
    this.#ms = ms
  }

  add(node: string, now: number): void {
    if (this.#ms === 0) return
    this.#until.delete(node)
    this.#until.set(node, now + this.#ms)
    if (this.#until.size > MOST) this.#until.delete(this.#until.keys().next().value as string)
  }

  has(node: string, now: number): boolean {
    const until = this.#until.get(node)
    if (until === undefined) return false
    if (until > now) return true
    this.#until.delete(node)
    return false
  }

  count(now: number): number {
    return [...this.#until.values()].filter((until) => until > now).length
  }
}

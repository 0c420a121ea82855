/** Nodes that have failed, for a while. */

/** Above it the oldest are forgotten. */
const MAX_NODES = 1_000

export class AvoidedNodes {
  readonly #durationMs: number
  /** By node, oldest first: until when. */
  readonly #avoidedUntil = new Map<string, number>()

  /** @param ms for how long one is avoided; 0: none is */
  constructor(ms: number) {
    this.#durationMs = ms
  }

  add(node: string, now: number): void {
    if (this.#durationMs === 0) return
    this.#avoidedUntil.delete(node)
    this.#avoidedUntil.set(node, now + this.#durationMs)
    if (this.#avoidedUntil.size > MAX_NODES)
      this.#avoidedUntil.delete(this.#avoidedUntil.keys().next().value as string)
  }

  has(node: string, now: number): boolean {
    const until = this.#avoidedUntil.get(node)
    if (until === undefined) return false
    if (until > now) return true
    this.#avoidedUntil.delete(node)
    return false
  }

  count(now: number): number {
    return [...this.#avoidedUntil.values()].filter((until) => until > now).length
  }
}

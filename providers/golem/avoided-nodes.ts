/** The nodes that have failed, and are not rented for some time. */

/** Maximum number of nodes that are remembered. The oldest are forgotten first. */
const MAX_NODES = 1_000

export class AvoidedNodes {
  readonly #durationMs: number
  /** The end of the time, by node, oldest first. */
  readonly #avoidedUntil = new Map<string, number>()

  /** @param durationMs how long a node is avoided; 0: no node is avoided */
  constructor(durationMs: number) {
    this.#durationMs = durationMs
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

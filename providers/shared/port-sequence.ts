/** Ports of other machines, for instances that choose a free one there. */
import type { PortRange } from './ports.ts'

/**
 * Goes round a range of ports, from a random port on. So two instances of one session never try the same ports at the
 * same time, wherever they run, and two sessions that start together seldom do.
 */
export class PortSequence {
  readonly #range: PortRange
  #next: number

  constructor(range: PortRange) {
    this.#range = range
    const [from, to] = range
    this.#next = from + Math.floor(Math.random() * (to - from + 1))
  }

  /** The next `count` ports; fewer if the range has fewer. */
  take(count: number): number[] {
    const [from, to] = this.#range
    return Array.from({ length: Math.min(count, to - from + 1) }, () => {
      this.#next = this.#next >= to ? from : this.#next + 1
      return this.#next
    })
  }
}

/** A limit for work that runs at the same time. Whoever is above the limit waits, first come, first served. */
import { Fifo } from './fifo.ts'

export class Semaphore {
  readonly #limit: number
  readonly #waiting = new Fifo<() => void>()
  #numRunning = 0

  /** @param limit how many actions may run at a time, from 1 up */
  constructor(limit: number) {
    this.#limit = limit
  }

  /** Waits for a permit, runs `action`, and settles as it does. */
  async run<T>(action: () => Promise<T>): Promise<T> {
    if (this.#numRunning < this.#limit) this.#numRunning++
    else await new Promise<void>((resolve) => this.#waiting.push(resolve))
    try {
      return await action()
    } finally {
      // The permit goes straight to the next in line, so nobody who comes now can take it.
      const next = this.#waiting.shift()
      if (next) next()
      else this.#numRunning--
    }
  }
}

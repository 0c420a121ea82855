/** How much of a source may be in the store at a time. */
import { sleep } from '../../core/time.ts'
import type { Store } from '../store/store.ts'

/** How often the store is asked whether tasks were claimed, by whichever server; in ms. */
const POLL_INTERVAL_MS = 5

export interface BacklogParts {
  readonly store: Store
  readonly batches: readonly string[]
  /** Most tasks that may wait in the store. */
  readonly maxWaiting: number
  readonly server: { readonly state: string }
}

export class Backlog {
  readonly #parts: BacklogParts

  constructor(parts: BacklogParts) {
    this.#parts = parts
  }

  /** Resolves when more tasks may be added, with how many; with 0 when the server works no longer. */
  async waitForCapacity(): Promise<number> {
    const { store, batches, maxWaiting, server } = this.#parts
    while (server.state === 'working') {
      if (maxWaiting === Number.POSITIVE_INFINITY) return maxWaiting
      const capacity = maxWaiting - (await store.counts(batches)).new
      if (capacity > 0) return capacity
      await sleep(POLL_INTERVAL_MS)
    }
    return 0
  }
}

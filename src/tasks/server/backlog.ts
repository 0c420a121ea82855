/** How much of a source may be in the store at a time. */
import { sleep } from '../../core/time.ts'
import type { Store } from '../store/store.ts'

/** Between two looks whether something was claimed, by whomever; in ms. */
const POLL_INTERVAL_MS = 5

export interface BacklogParts {
  readonly store: Store
  readonly batches: readonly string[]
  /** Tasks that may wait there. */
  readonly maxWaiting: number
  isWorking(): boolean
}

export class Backlog {
  readonly #parts: BacklogParts

  constructor(parts: BacklogParts) {
    this.#parts = parts
  }

  /** Resolves when fewer than `most` tasks wait in the store, with how many fewer; with 0 where no work is done any more. */
  async waitForCapacity(): Promise<number> {
    const { store, batches, maxWaiting: most, isWorking } = this.#parts
    while (isWorking()) {
      if (most === Number.POSITIVE_INFINITY) return most
      const room = most - (await store.counts(batches)).new
      if (room > 0) return room
      await sleep(POLL_INTERVAL_MS)
    }
    return 0
  }
}

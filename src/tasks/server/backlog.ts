/** How much of a source may be in the store at a time. */
import { sleep } from '../../time.ts'
import type { Store } from '../store/store.ts'

export interface BacklogParts {
  readonly store: Store
  /** Tasks that may wait there. */
  readonly most: number
  isWorking(): boolean
}

export class Backlog {
  readonly #parts: BacklogParts

  constructor(parts: BacklogParts) {
    this.#parts = parts
  }

  /** Resolves when fewer than `most` tasks wait in the store. */
  async room(): Promise<void> {
    const { store, most, isWorking } = this.#parts
    if (most === Number.POSITIVE_INFINITY) return
    while (isWorking() && (await store.counts()).new >= most) await sleep(5)
  }
}

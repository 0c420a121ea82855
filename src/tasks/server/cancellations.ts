/** Tasks that somebody cancelled, whoever it was: their run is to tell of them, and nobody else will. */
import { wallClock } from '../../core/time.ts'
import type { Noting } from '../store/batches.ts'
import type { Serving } from '../store/servers.ts'
import type { Store } from '../store/store.ts'
import type { Task } from '../task.ts'

export interface CancellationParts {
  readonly store: Store
  readonly serving: Serving
  readonly batches: readonly string[]
  /** The server, as it is in the store now. */
  self(): { readonly id: string; readonly host: string }
}

export class Cancellations {
  /** There may be some: they are to be looked for. */
  mayBe = false
  readonly #parts: CancellationParts
  /** Milliseconds since 1970. */
  readonly #begun = wallClock()

  constructor(parts: CancellationParts) {
    this.#parts = parts
  }

  /** Those of claims that were cancelled while the server had them. */
  async among(tasks: readonly Task[]): Promise<Task[]> {
    const found = await this.#parts.store.find(tasks.map(({ id }) => id))
    const fences = new Map(tasks.map(({ id, fence }) => [id, fence]))
    return found.filter((one) => one.exitStatus === -1 && one.fence === fences.get(one.id))
  }

  /** What was cancelled while nobody had claimed it, a part at a time. */
  async *untold(): AsyncGenerator<Task[], void, undefined> {
    this.mayBe = false
    const { store, serving, batches, self } = this.#parts
    const { id, host } = self()
    const noting: Noting = {
      server: id,
      host,
      batches: batches.map((batch) => ({
        batch,
        // What was cancelled while nobody served is nobody's news.
        since: batch === serving.batch ? 0 : this.#begun,
      })),
    }
    for (;;) {
      const tasks = await store.noteCancelled(noting)
      if (tasks.length === 0) return
      yield tasks
    }
  }
}

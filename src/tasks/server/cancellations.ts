/** Tasks that somebody cancelled, whoever it was: their run is to tell of them, and nobody else will. */
import { wallClock } from '../../core/time.ts'
import type { Task } from '../model/task.ts'
import type { CancelledQuery } from '../store/batches.ts'
import type { ServedTasks } from '../store/servers.ts'
import type { Store } from '../store/store.ts'

export interface CancellationParts {
  readonly store: Store
  readonly serving: ServedTasks
  readonly batches: readonly string[]
  /** The server, as it is in the store now. */
  self(): { readonly id: string; readonly host: string }
}

export class Cancellations {
  /** There may be some: they are to be looked for. */
  mayExist = false
  readonly #parts: CancellationParts
  /** Milliseconds since 1970. */
  readonly #startedAt = wallClock()

  constructor(parts: CancellationParts) {
    this.#parts = parts
  }

  /** Those of claims that were cancelled while the server had them. */
  async filterCancelled(tasks: readonly Task[]): Promise<Task[]> {
    const found = await this.#parts.store.find(tasks.map(({ id }) => id))
    const fences = new Map(tasks.map(({ id, fence }) => [id, fence]))
    return found.filter((one) => one.exitStatus === -1 && one.fence === fences.get(one.id))
  }

  /** What was cancelled while nobody had claimed it, a part at a time. */
  async *listUnreported(): AsyncGenerator<Task[], void, undefined> {
    this.mayExist = false
    const { store, serving, batches, self } = this.#parts
    const { id, host } = self()
    const noting: CancelledQuery = {
      server: id,
      host,
      batches: batches.map((batch) => ({
        batch,
        // What was cancelled while nobody served is nobody's news.
        since: batch === serving.batch ? 0 : this.#startedAt,
      })),
    }
    for (;;) {
      const tasks = await store.takeCancelled(noting)
      if (tasks.length === 0) return
      yield tasks
    }
  }
}

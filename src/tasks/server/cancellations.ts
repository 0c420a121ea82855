/** Finds tasks that were cancelled, by whomever. Their server is to report them, and no other event tells of them. */
import { wallClock } from '../../core/time.ts'
import { EXIT_CANCELLED } from '../model/exit-status.ts'
import type { Task } from '../model/task.ts'
import type { CancelledQuery } from '../store/batches.ts'
import type { ServedTasks } from '../store/servers.ts'
import type { Store } from '../store/store.ts'
import type { TaskServerLease } from './task-server-lease.ts'

export interface CancellationParts {
  readonly store: Store
  readonly serving: ServedTasks
  readonly batches: readonly string[]
  readonly lease: Pick<TaskServerLease, 'id' | 'host'>
}

export class Cancellations {
  /** Whether there may be some that were not looked for yet. */
  mayExist = false
  readonly #parts: CancellationParts
  /** Milliseconds since 1970. */
  readonly #startedAt = wallClock()

  constructor(parts: CancellationParts) {
    this.#parts = parts
  }

  /** Of tasks that this server had claimed, those that were cancelled under the same claim. */
  async filterCancelled(tasks: readonly Task[]): Promise<Task[]> {
    const found = await this.#parts.store.find(tasks.map(({ id }) => id))
    const fences = new Map(tasks.map(({ id, fence }) => [id, fence]))
    return found.filter(
      ({ id, exitStatus, fence }) => exitStatus === EXIT_CANCELLED && fence === fences.get(id),
    )
  }

  /** Tasks that were cancelled while no server had claimed them, in parts. Each is given once. */
  async *listUnreported(): AsyncGenerator<Task[], void, undefined> {
    this.mayExist = false
    const { store, serving, batches, lease } = this.#parts
    const query: CancelledQuery = {
      server: lease.id,
      host: lease.host,
      batches: batches.map((batch) => ({
        batch,
        // Tasks for any server that were cancelled before this one began are not reported by anybody.
        since: batch === serving.batch ? 0 : this.#startedAt,
      })),
    }
    for (;;) {
      const tasks = await store.takeCancelled(query)
      if (tasks.length === 0) return
      yield tasks
    }
  }
}

/** Restarts on request of a caller: one at a time for each cluster and instance. Failures are reported, also if no caller waits. */

import type { Cluster } from '../../cluster/cluster.ts'
import { asError, ManyhostError } from '../../core/errors.ts'
import type { SessionCore } from '../../session/session.ts'

export class ManualRestarts {
  readonly #running = new WeakMap<Cluster, Map<string, Promise<void>>>()
  readonly #session: SessionCore
  readonly #onError: (error: ManyhostError) => void

  constructor(session: SessionCore, onError: (error: ManyhostError) => void) {
    this.#session = session
    this.#onError = onError
  }

  /**
   * Restarts the cluster, or one of its instances. If that restart is running already, waits for it.
   * @throws ManyhostError MANYHOST_START_FAILED
   */
  start(cluster: Cluster, id?: string): Promise<void> {
    const running = this.#running.get(cluster) ?? new Map<string, Promise<void>>()
    this.#running.set(cluster, running)
    const key = id ?? ''
    const known = running.get(key)
    if (known) return known
    const one = this.#session.restart(cluster.url, id).finally(() => running.delete(key))
    running.set(key, one)
    one.catch((thrown: unknown) => this.#onError(restartError(cluster, thrown)))
    return one
  }
}

function restartError(cluster: Cluster, thrown: unknown): ManyhostError {
  if (thrown instanceof ManyhostError) return thrown
  const text = `${cluster.url}: the restart failed: ${asError(thrown).message}`
  return new ManyhostError('MANYHOST_START_FAILED', text, { cause: thrown, service: cluster.url })
}

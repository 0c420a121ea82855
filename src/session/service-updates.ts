/** Changes of services while they serve: at most one of each service is under way. */
import type { Cluster } from '../cluster/cluster.ts'
import { deferred } from '../core/deferred.ts'
import { asError, ManyhostError } from '../core/errors.ts'
import type { ErrorReporter } from '../core/user-functions.ts'
import type { SizeSpec } from '../sizing/size.ts'

/** @internal */
export interface ServiceUpdate {
  /** Resolves when the new instances have taken over. */
  readonly rolled: Promise<void>
  /** Resolves when the old instances are gone. */
  readonly done: Promise<Cluster>
}

/**
 * Runs an update and tells its two ends apart.
 * @param run calls `onRolled` when the new instances have taken over, and resolves when the old ones are gone
 */
export function startUpdate(run: (onRolled: () => void) => Promise<Cluster>): ServiceUpdate {
  const takenOver = deferred<void>()
  const done = run(() => takenOver.resolve())
  // An update that fails before its instances have taken over rejects both.
  const rolled = Promise.race([takenOver.promise, done]).then(() => undefined)
  // A caller that waits for `done` alone must not get an unhandled rejection of `rolled`.
  rolled.catch(() => undefined)
  return { rolled, done }
}

/** An update that is under way. */
export class PendingUpdate {
  readonly #abort = new AbortController()
  #size: SizeSpec<Cluster> | undefined

  /** Aborted when a newer change of the service takes the place of this one. */
  get signal(): AbortSignal {
    return this.#abort.signal
  }

  abort(error: ManyhostError): void {
    this.#abort.abort(error)
  }

  /** Whether `setSize` was called since the update began. Then that size holds, and not the one of the update. */
  get isSizeSet(): boolean {
    return this.#size !== undefined
  }

  recordSize(size: SizeSpec<Cluster>): void {
    this.#size = size
  }

  /** Gives the size that was set meanwhile to the new cluster: it was set for the service, whichever its instances are. */
  applySize(next: Cluster, report: ErrorReporter): void {
    if (this.#size === undefined) return
    try {
      next.setSize(this.#size)
    } catch (error) {
      // A class may fail to be constructed a second time. The size of the update holds then.
      this.#size = undefined
      report(asError(error) as ManyhostError)
    }
  }
}

/** The newest update of each service, by virtual URL. */
export class PendingUpdates {
  readonly #updates = new Map<string, PendingUpdate>()

  get(service: string): PendingUpdate | undefined {
    return this.#updates.get(service)
  }

  /** Begins an update. One of the same service that is under way is aborted; nothing waits for its end. */
  begin(service: string): PendingUpdate {
    this.abort(service, 'a newer update of the service took its place')
    const update = new PendingUpdate()
    this.#updates.set(service, update)
    return update
  }

  /** Forgets an update that has ended, unless a newer one has taken its place. */
  end(service: string, update: PendingUpdate): void {
    if (this.#updates.get(service) === update) this.#updates.delete(service)
  }

  abort(service: string, why: string): void {
    const error = new ManyhostError('MANYHOST_ABORTED', `${service}: ${why}`, { service })
    this.#updates.get(service)?.abort(error)
    this.#updates.delete(service)
  }
}

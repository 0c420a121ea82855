/** Releases a connection for another protocol. Both ends must request it. */
import { deferred } from '../core/deferred.ts'
import { createStageError } from './errors.ts'

export class ReleaseAgreement {
  readonly #agreement = deferred<void>()
  #isRequestedHere = false
  #isRequestedByPeer = false

  /** Whether the peer has requested it: its next bytes belong to another protocol. */
  get isRequestedByPeer(): boolean {
    return this.#isRequestedByPeer
  }

  /** Resolves when both ends have requested it; rejects if the link ends before. */
  get agreed(): Promise<void> {
    return this.#agreement.promise
  }

  /** @throws ManyhostError MANYHOST_WIRE_STAGE if this end has requested it already */
  request(): void {
    if (this.#isRequestedHere) throw createStageError('the connection is being released already')
    this.#isRequestedHere = true
    if (this.#isRequestedByPeer) this.#agreement.resolve()
  }

  onPeerRequest(): void {
    this.#isRequestedByPeer = true
    if (this.#isRequestedHere) this.#agreement.resolve()
  }

  fail(error: Error): void {
    this.#agreement.reject(error)
    this.#agreement.promise.catch(() => {})
  }
}

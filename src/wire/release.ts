/** Handing a connection over to another protocol: both ends have to ask for it. */
import { deferred } from '../core/deferred.ts'
import { createStageError } from './errors.ts'

export class ReleaseAgreement {
  readonly #agreement = deferred<void>()
  #isRequestedHere = false
  #isRequestedByPeer = false

  /** Whether the peer has asked: its next bytes are another protocol's. */
  get isRequestedByPeer(): boolean {
    return this.#isRequestedByPeer
  }

  /** Resolves when both ends have asked; rejects when the link ends before. */
  get agreed(): Promise<void> {
    return this.#agreement.promise
  }

  /** @throws ManyhostError MANYHOST_WIRE_STAGE when this end has asked already */
  request(): void {
    if (this.#isRequestedHere) throw createStageError('the connection is being released already')
    this.#isRequestedHere = true
    if (this.#isRequestedByPeer) this.#agreement.resolve()
  }

  /** The peer asks. */
  onPeerRequest(): void {
    this.#isRequestedByPeer = true
    if (this.#isRequestedHere) this.#agreement.resolve()
  }

  fail(error: Error): void {
    this.#agreement.reject(error)
    this.#agreement.promise.catch(() => {})
  }
}

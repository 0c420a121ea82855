/** Handing a connection over to another protocol: both ends have to ask for it. */
import { deferred } from './deferred.ts'
import { stageError } from './inlet.ts'

export class Handover {
  readonly #both = deferred<void>()
  #isMine = false
  #isTheirs = false

  /** Whether the peer has asked: its next bytes are another protocol's. */
  get isTheirs(): boolean {
    return this.#isTheirs
  }

  /** Resolves when both ends have asked; rejects when the link ends before. */
  get agreed(): Promise<void> {
    return this.#both.promise
  }

  /** @throws ManyhostError MANYHOST_WIRE_STAGE when this end has asked already */
  ask(): void {
    if (this.#isMine) throw stageError('the connection is being released already')
    this.#isMine = true
    if (this.#isTheirs) this.#both.resolve()
  }

  /** The peer asks. */
  hear(): void {
    this.#isTheirs = true
    if (this.#isMine) this.#both.resolve()
  }

  end(error: Error): void {
    this.#both.reject(error)
    this.#both.promise.catch(() => {})
  }
}

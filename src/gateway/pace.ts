/** Holds clients to a least pace while their bodies are waited for. One timer watches all of them. */
import { ManyhostError } from '../core/errors.ts'
import { every, type Timer } from '../core/time.ts'

/** A body that is being read. */
export interface Paced {
  /** Bytes so far. */
  readonly received: number
  /** Whether we wait for the client, rather than it for us. */
  readonly isAwaited: boolean
  fail(error: Error): void
}

interface Watch {
  received: number
  /** Looks in a row at which it was awaited and too slow. */
  slow: number
}

const CHECK = 1_000
/** Looks in a row that may see less than the least pace. They are counted, so that a standstill of ours is one look. */
const MOST_SLOW = 10

export class Pace {
  readonly #rate: number
  readonly #watches = new Map<Paced, Watch>()
  #timer: Timer | undefined

  /** @param rate least bytes a second; 0 for none */
  constructor(rate: number) {
    this.#rate = rate
  }

  add(body: Paced): void {
    if (this.#rate === 0) return
    this.#watches.set(body, { received: 0, slow: 0 })
    this.#timer ??= every(CHECK, () => this.#look())
  }

  remove(body: Paced): void {
    this.#watches.delete(body)
  }

  #look(): void {
    // Left running while bodies come and go: making a timer for each would cost more.
    if (this.#watches.size === 0) return this.#rest()
    const least = (this.#rate * CHECK) / 1_000
    for (const [body, watch] of this.#watches) {
      const isSlow = body.isAwaited && body.received - watch.received < least
      watch.slow = isSlow ? watch.slow + 1 : 0
      watch.received = body.received
      if (watch.slow >= MOST_SLOW) body.fail(tooSlow(this.#rate))
    }
  }

  #rest(): void {
    this.#timer?.clear()
    this.#timer = undefined
  }
}

function tooSlow(rate: number): ManyhostError {
  return new ManyhostError(
    'MANYHOST_BODY_TOO_SLOW',
    `the request's body came slower than ${rate} bytes a second for ${(MOST_SLOW * CHECK) / 1_000} s`,
  )
}

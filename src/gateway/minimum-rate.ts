/** Holds clients to a least pace while their bodies are waited for. One timer watches all of them. */
import { ManyhostError } from '../core/errors.ts'
import { every, type Timer } from '../core/time.ts'

/** A body that is being read. */
export interface MeteredBody {
  /** Bytes so far. */
  readonly received: number
  /** Whether we wait for the client, rather than it for us. */
  readonly isAwaited: boolean
  fail(error: Error): void
}

interface BodyProgress {
  received: number
  /** Looks in a row at which it was awaited and too slow. */
  slowChecks: number
}

const CHECK_INTERVAL = 1_000
/** Looks in a row that may see less than the least pace. They are counted, so that a standstill of ours is one look. */
const MAX_SLOW_CHECKS = 10

export class MinimumRate {
  readonly #rate: number
  readonly #progress = new Map<MeteredBody, BodyProgress>()
  #timer: Timer | undefined

  /** @param rate least bytes a second; 0 for none */
  constructor(rate: number) {
    this.#rate = rate
  }

  add(body: MeteredBody): void {
    if (this.#rate === 0) return
    this.#progress.set(body, { received: 0, slowChecks: 0 })
    this.#timer ??= every(CHECK_INTERVAL, () => this.#check())
  }

  remove(body: MeteredBody): void {
    this.#progress.delete(body)
  }

  #check(): void {
    // Left running while bodies come and go: making a timer for each would cost more.
    if (this.#progress.size === 0) return this.#stopTimer()
    const least = (this.#rate * CHECK_INTERVAL) / 1_000
    for (const [body, watch] of this.#progress) {
      const isSlow = body.isAwaited && body.received - watch.received < least
      watch.slowChecks = isSlow ? watch.slowChecks + 1 : 0
      watch.received = body.received
      if (watch.slowChecks >= MAX_SLOW_CHECKS) body.fail(bodyTooSlowError(this.#rate))
    }
  }

  #stopTimer(): void {
    this.#timer?.clear()
    this.#timer = undefined
  }
}

function bodyTooSlowError(rate: number): ManyhostError {
  return new ManyhostError(
    'MANYHOST_BODY_TOO_SLOW',
    `the request's body came slower than ${rate} bytes a second for ${(MAX_SLOW_CHECKS * CHECK_INTERVAL) / 1_000} s`,
  )
}

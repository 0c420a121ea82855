/** Holds clients to a minimum rate while their request bodies are waited for. One timer checks all bodies. */
import { ManyhostError } from '../core/errors.ts'
import { every, type Timer } from '../core/time.ts'

/** A body that is being read. */
export interface MeteredBody {
  /** Bytes so far. */
  readonly received: number
  /** Whether its reader waits for the client, and not the client for the reader. */
  readonly isAwaited: boolean
  fail(error: Error): void
}

interface BodyProgress {
  received: number
  /** Checks in a row at which it was awaited and too slow. */
  slowChecks: number
}

const CHECK_INTERVAL = 1_000
/**
 * Checks in a row at which a body may be too slow. Checks are counted, not milliseconds, so that a pause of this process
 * counts as one check.
 */
const MAX_SLOW_CHECKS = 10

export class MinimumRate {
  readonly #rate: number
  readonly #progress = new Map<MeteredBody, BodyProgress>()
  #timer: Timer | undefined

  /** @param rate minimum bytes per second; 0 for no minimum */
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
    // The timer keeps running while bodies come and go: a timer for each would cost more.
    if (this.#progress.size === 0) return this.#stopTimer()
    const minBytes = (this.#rate * CHECK_INTERVAL) / 1_000
    for (const [body, watch] of this.#progress) {
      const isSlow = body.isAwaited && body.received - watch.received < minBytes
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
    `the body of the request came slower than ${rate} bytes per second (bodyRate) for ${(MAX_SLOW_CHECKS * CHECK_INTERVAL) / 1_000} s`,
  )
}

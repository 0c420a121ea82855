/**
 * The lease by which an agent has its instances (Gray and Cheriton 1989). It makes sure that the hub starts no replacement
 * while the original still runs:
 * 1. The agent sends its last acknowledged message at time t.
 * 2. The hub hears it at t or later.
 * 3. The hub evicts the agent `evictAfter` ms after it has heard it, so at t + evictAfter or later.
 * 4. The agent ends its instances at t + evictAfter, which is no later than step 3. Both sides measure durations only, so
 *    their clocks need not agree.
 */
import { after, now, type Timer } from '../../src/core/time.ts'

export class AgentLease {
  readonly #onLost: (why: string) => void
  /** Milliseconds. The hub says it in its answer to `hello`. */
  #evictAfter = 15_000
  /** When the last message was sent that the hub has acknowledged. */
  #acknowledgedAt = now()
  #timer: Timer | undefined

  /** @param onLost called when the lease is over */
  constructor(onLost: (why: string) => void) {
    this.#onLost = onLost
  }

  get evictAfter(): number {
    return this.#evictAfter
  }

  /** A hub has admitted the agent, which said hello at `sentAt`. */
  begin(sentAt: number, evictAfter: number): void {
    this.#timer?.clear()
    this.#acknowledgedAt = sentAt
    this.#evictAfter = evictAfter
  }

  /** The hub has acknowledged a message that was sent at `sentAt`. */
  acknowledge(sentAt: number): void {
    this.#acknowledgedAt = sentAt
  }

  /** The link has ended. From now on only `begin` can save the instances. */
  startTimer(): void {
    this.#timer?.clear()
    const timeLeft = Math.max(0, this.#acknowledgedAt + this.#evictAfter - now())
    this.#timer = after(timeLeft, () => this.#onLost(`no hub for ${this.#evictAfter} ms`))
  }

  stopTimer(): void {
    this.#timer?.clear()
  }
}

/** When a server asks the store for more, and for how much. */
import type { ManyhostError } from '../../errors.ts'
import { after, now, type Timer } from '../../time.ts'
import type { ClaimOptions } from '../store/claims.ts'
import type { Store } from '../store/store.ts'
import type { Task } from '../task.ts'
import type { Carrier } from './carrier.ts'
import type { Held } from './held.ts'

/** Between two claims that are small beside what runs, in ms. */
const SOON = 20

/** What is next in the store is looked at again after so long, where somebody has nothing to do: in ms, at most. */
const LONGEST = 250

export interface ClaimingParts {
  readonly store: Store
  /** Most of one claim. */
  readonly bundleSize: number
  /** Time for another look. */
  again(): void
  problem(message: string): void
}

export class Claiming {
  readonly #parts: ClaimingParts
  #isDry = false
  #claimedAt = 0
  readonly #passedOver = new Map<Carrier, { readonly wait: number; readonly until: number }>()
  #look: { readonly at: number; readonly timer: Timer } | undefined

  constructor(parts: ClaimingParts) {
    this.#parts = parts
  }

  /** The last claim gave nothing, and nothing has happened since. */
  get isDry(): boolean {
    return this.#isDry
  }

  /** There may be something again. */
  wake(): void {
    this.#isDry = false
  }

  close(): void {
    this.#look?.timer.clear()
  }

  /** Whether so much room is worth a transaction now; if not, there is another look a moment later. */
  isWorth(room: number, running: number): boolean {
    if (room <= 0 || this.#isDry) return false
    const isLittle = room < Math.min(running / 2, this.#parts.bundleSize)
    if (!isLittle || now() - this.#claimedAt >= SOON) return true
    this.#lookAt(now() + SOON)
    return false
  }

  /**
   * As many as those who have nothing waiting would take. Who got none of a whole claim is not asked for a while, where
   * something runs: what comes is for others, and a claim for it alone would bring one task of theirs at a time. When that
   * while is over there is another look: by then the next task may be its own, and of others that are full nobody claims.
   * None while too much waits for others, or to be kept.
   */
  room(carriers: readonly Carrier[], held: Held, outcomes: number): number {
    const { bundleSize } = this.#parts
    if (held.waitingCount >= bundleSize || outcomes > 10 * bundleSize) return 0
    const at = now()
    let most = 0
    let next = Number.POSITIVE_INFINITY
    for (const one of carriers) {
      if (held.hasWaiting(one)) continue
      const until = this.#passedOver.get(one)?.until ?? 0
      if (held.size > 0 && until > at) next = Math.min(next, until)
      else most = Math.max(most, one.room())
    }
    if (most === 0 && next < Number.POSITIVE_INFINITY) this.#lookAt(next)
    return Math.min(most, bundleSize)
  }

  /** What a claim brought, by who takes it. */
  claimed(isWhole: boolean, takers: ReadonlySet<Carrier>, carriers: readonly Carrier[]): void {
    if (!isWhole) return this.#passedOver.clear()
    for (const one of carriers) {
      if (takers.has(one)) {
        this.#passedOver.delete(one)
        continue
      }
      const wait = Math.min(LONGEST, 2 * (this.#passedOver.get(one)?.wait ?? SOON / 2))
      this.#passedOver.set(one, { wait, until: now() + wait })
    }
  }

  /** Has one look at that time, or before. */
  #lookAt(at: number): void {
    if (this.#look && this.#look.at <= at) return
    this.#look?.timer.clear()
    const timer = after(Math.ceil(at - now()), () => {
      this.#look = undefined
      this.#parts.again()
    })
    this.#look = { at, timer }
  }

  async claim(options: ClaimOptions): Promise<Task[]> {
    const { store, problem } = this.#parts
    this.#claimedAt = now()
    this.#isDry = true
    try {
      const tasks = await store.claim(options)
      if (tasks.length > 0) this.#isDry = false
      return tasks
    } catch (error) {
      const { code, message } = error as ManyhostError
      if (code !== 'MANYHOST_SERVER_EVICTED') throw error
      // The next beat makes it a new one.
      problem(message)
      return []
    }
  }
}

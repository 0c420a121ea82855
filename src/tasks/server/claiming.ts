/** When a server asks the store for more, and for how much. */
import type { ManyhostError } from '../../core/errors.ts'
import { after, now, type Timer } from '../../core/time.ts'
import type { ClaimOptions } from '../store/claims.ts'
import type { Store } from '../store/store.ts'
import { kindsOf, TASK_KINDS, type Task, type TaskKind } from '../task.ts'
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

/** One claim that is to be made. */
export type Ask = Pick<ClaimOptions, 'kind'> & { readonly limit: number }

/** What those of one kind would take. */
interface Room {
  readonly kind: TaskKind
  readonly limit: number
  /** It is taken when its turn comes: it is not looked for behind the other kind, and does not keep that back. */
  readonly isOpen: boolean
}

export class Claiming {
  readonly #parts: ClaimingParts
  readonly #dry = new Set<TaskKind>()
  readonly #claimedAt = { shell: 0, request: 0 }
  readonly #passedOver = new Map<Carrier, { readonly wait: number; readonly until: number }>()
  #look: { readonly at: number; readonly timer: Timer } | undefined

  constructor(parts: ClaimingParts) {
    this.#parts = parts
  }

  /** The last claim of each kind gave nothing, and nothing has happened since. */
  get isDry(): boolean {
    return this.#dry.size === TASK_KINDS.length
  }

  /** There may be something again. */
  wake(): void {
    this.#dry.clear()
  }

  close(): void {
    this.#look?.timer.clear()
  }

  /**
   * The claims that are worth a transaction now. While each kind has room one claim is for both, in the order of
   * submission; where one is full, or was passed over, each is claimed for itself, past all of the other.
   */
  asks(carriers: readonly Carrier[], held: Held, outcomes: number): Ask[] {
    if (outcomes > 10 * this.#parts.bundleSize) return []
    const rooms = TASK_KINDS.map((kind) => this.#room(kind, carriers, held))
    const asks: Ask[] = rooms.every(({ isOpen }) => isOpen)
      ? [{ limit: Math.max(...rooms.map(({ limit }) => limit)) }]
      : rooms.map(({ kind, limit }) => ({ kind, limit }))
    return asks.filter((ask) => this.#isWorth(ask, held.runningCount))
  }

  /**
   * As many as those who have nothing waiting would take. Who got none of a whole claim is not asked for a while, where
   * something runs: what comes is for others. When that while is over there is another look, for its kind alone. None while
   * too much waits for others of this kind. A kind that nobody here carries is claimed along, to be refused.
   */
  #room(kind: TaskKind, carriers: readonly Carrier[], held: Held): Room {
    const own = carriers.filter((one) => one.kind === kind)
    const waiting = own.reduce((sum, one) => sum + held.waitingFor(one), 0)
    const { bundleSize } = this.#parts
    const at = now()
    let most = 0
    let next = Number.POSITIVE_INFINITY
    let isOpen = own.length === 0
    for (const one of waiting < bundleSize ? own : []) {
      if (held.waitingFor(one) > 0) continue
      const passedOver = held.size > 0 ? this.#passedOver.get(one) : undefined
      if (passedOver && passedOver.until > at) {
        next = Math.min(next, passedOver.until)
        continue
      }
      const room = one.room()
      most = Math.max(most, room)
      if (!passedOver && room > 0 && waiting === 0) isOpen = true
    }
    if (most === 0 && next < Number.POSITIVE_INFINITY) this.#lookAt(next)
    return { kind, limit: Math.min(most, bundleSize), isOpen }
  }

  /** Whether so much room is worth a transaction now; if not, there is another look a moment later. */
  #isWorth({ kind, limit }: Ask, running: number): boolean {
    const kinds = kindsOf(kind)
    if (limit <= 0 || kinds.every((one) => this.#dry.has(one))) return false
    const isLittle = limit < Math.min(running / 2, this.#parts.bundleSize)
    const again = Math.max(...kinds.map((one) => this.#claimedAt[one])) + SOON
    if (!isLittle || now() >= again) return true
    this.#lookAt(again)
    return false
  }

  /** What a claim brought, by who takes it. */
  claimed(
    { kind, limit }: Ask,
    count: number,
    takers: ReadonlySet<Carrier>,
    carriers: readonly Carrier[],
  ): void {
    const kinds = kindsOf(kind)
    // What nobody here carries is over at once, and keeps nobody back.
    const isWhole = count === limit && carriers.some((one) => takers.has(one))
    for (const one of carriers) {
      if (!kinds.includes(one.kind)) continue
      const before = this.#passedOver.get(one)?.wait
      // How one kind stands says nothing of the other: who was passed over for that stays so.
      const isPassedOver = isWhole || (kind !== undefined && before !== undefined)
      if (takers.has(one) || !isPassedOver) {
        this.#passedOver.delete(one)
        continue
      }
      const wait = Math.min(LONGEST, 2 * (before ?? SOON / 2))
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
    const kinds = kindsOf(options.kind)
    for (const kind of kinds) {
      this.#claimedAt[kind] = now()
      this.#dry.add(kind)
    }
    try {
      const tasks = await store.claim(options)
      if (tasks.length > 0) for (const kind of kinds) this.#dry.delete(kind)
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

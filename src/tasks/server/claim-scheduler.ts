/** When a server asks the store for more, and for how much. */
import type { ManyhostError } from '../../core/errors.ts'
import { after, now, type Timer } from '../../core/time.ts'
import { selectKinds, TASK_KINDS, type Task, type TaskKind } from '../model/task.ts'
import type { TaskClaimOptions } from '../store/claim-tasks.ts'
import type { Store } from '../store/store.ts'
import type { ClaimedTasks } from './claimed-tasks.ts'
import type { TaskExecutor } from './executor.ts'

/** Between two claims that are small beside what runs, in ms. */
const MIN_CLAIM_INTERVAL_MS = 20

/** What is next in the store is looked at again after so long, where somebody has nothing to do: in ms, at most. */
const MAX_SKIP_MS = 250

export interface ClaimSchedulerParts {
  readonly store: Store
  /** Most of one claim. */
  readonly bundleSize: number
  /** Time for another look. */
  retry(): void
  reportProblem(message: string): void
}

/** One claim that is to be made. */
export type ClaimRequest = Pick<TaskClaimOptions, 'kind'> & { readonly limit: number }

/** What those of one kind would take. */
interface KindCapacity {
  readonly kind: TaskKind
  readonly limit: number
  /** It is taken when its turn comes: it is not looked for behind the other kind, and does not keep that back. */
  readonly isOpen: boolean
}

export class ClaimScheduler {
  readonly #parts: ClaimSchedulerParts
  readonly #emptyKinds = new Set<TaskKind>()
  readonly #claimedAt = { shell: 0, request: 0 }
  readonly #skippedExecutors = new Map<
    TaskExecutor,
    { readonly wait: number; readonly until: number }
  >()
  #retryTimer: { readonly at: number; readonly timer: Timer } | undefined

  constructor(parts: ClaimSchedulerParts) {
    this.#parts = parts
  }

  /** The last claim of each kind gave nothing, and nothing has happened since. */
  get hasNothingToClaim(): boolean {
    return this.#emptyKinds.size === TASK_KINDS.length
  }

  /** There may be something again. */
  expectNewTasks(): void {
    this.#emptyKinds.clear()
  }

  close(): void {
    this.#retryTimer?.timer.clear()
  }

  /**
   * The claims that are worth a transaction now. While each kind has room one claim is for both, in the order of
   * submission; where one is full, or was passed over, each is claimed for itself, past all of the other.
   */
  planClaims(
    carriers: readonly TaskExecutor[],
    held: ClaimedTasks,
    outcomes: number,
  ): ClaimRequest[] {
    if (outcomes > 10 * this.#parts.bundleSize) return []
    const rooms = TASK_KINDS.map((kind) => this.#capacityFor(kind, carriers, held))
    const asks: ClaimRequest[] = rooms.every(({ isOpen }) => isOpen)
      ? [{ limit: Math.max(...rooms.map(({ limit }) => limit)) }]
      : rooms.map(({ kind, limit }) => ({ kind, limit }))
    return asks.filter((ask) => this.#isWorthClaiming(ask, held.runningCount))
  }

  /**
   * As many as those who have nothing waiting would take. Who got none of a whole claim is not asked for a while, where
   * something runs: what comes is for others. When that while is over there is another look, for its kind alone. None while
   * too much waits for others of this kind. A kind that nobody here carries is claimed along, to be refused.
   */
  #capacityFor(
    kind: TaskKind,
    carriers: readonly TaskExecutor[],
    held: ClaimedTasks,
  ): KindCapacity {
    const own = carriers.filter((one) => one.kind === kind)
    const waiting = own.reduce((sum, one) => sum + held.countWaiting(one), 0)
    const { bundleSize } = this.#parts
    const at = now()
    let most = 0
    let next = Number.POSITIVE_INFINITY
    let isOpen = own.length === 0
    for (const one of waiting < bundleSize ? own : []) {
      if (held.countWaiting(one) > 0) continue
      const passedOver = held.size > 0 ? this.#skippedExecutors.get(one) : undefined
      if (passedOver && passedOver.until > at) {
        next = Math.min(next, passedOver.until)
        continue
      }
      const room = one.availableCapacity()
      most = Math.max(most, room)
      if (!passedOver && room > 0 && waiting === 0) isOpen = true
    }
    if (most === 0 && next < Number.POSITIVE_INFINITY) this.#scheduleRetry(next)
    return { kind, limit: Math.min(most, bundleSize), isOpen }
  }

  /** Whether so much room is worth a transaction now; if not, there is another look a moment later. */
  #isWorthClaiming({ kind, limit }: ClaimRequest, running: number): boolean {
    const kinds = selectKinds(kind)
    if (limit <= 0 || kinds.every((one) => this.#emptyKinds.has(one))) return false
    const isLittle = limit < Math.min(running / 2, this.#parts.bundleSize)
    const again = Math.max(...kinds.map((one) => this.#claimedAt[one])) + MIN_CLAIM_INTERVAL_MS
    if (!isLittle || now() >= again) return true
    this.#scheduleRetry(again)
    return false
  }

  /** What a claim brought, by who takes it. */
  recordClaim(
    { kind, limit }: ClaimRequest,
    count: number,
    takers: ReadonlySet<TaskExecutor>,
    carriers: readonly TaskExecutor[],
  ): void {
    const kinds = selectKinds(kind)
    // What nobody here carries is over at once, and keeps nobody back.
    const isWhole = count === limit && carriers.some((one) => takers.has(one))
    for (const one of carriers) {
      if (!kinds.includes(one.kind)) continue
      const before = this.#skippedExecutors.get(one)?.wait
      // How one kind stands says nothing of the other: who was passed over for that stays so.
      const isPassedOver = isWhole || (kind !== undefined && before !== undefined)
      if (takers.has(one) || !isPassedOver) {
        this.#skippedExecutors.delete(one)
        continue
      }
      const wait = Math.min(MAX_SKIP_MS, 2 * (before ?? MIN_CLAIM_INTERVAL_MS / 2))
      this.#skippedExecutors.set(one, { wait, until: now() + wait })
    }
  }

  /** Has one look at that time, or before. */
  #scheduleRetry(at: number): void {
    if (this.#retryTimer && this.#retryTimer.at <= at) return
    this.#retryTimer?.timer.clear()
    const timer = after(Math.ceil(at - now()), () => {
      this.#retryTimer = undefined
      this.#parts.retry()
    })
    this.#retryTimer = { at, timer }
  }

  async claim(options: TaskClaimOptions): Promise<Task[]> {
    const { store, reportProblem: problem } = this.#parts
    const kinds = selectKinds(options.kind)
    for (const kind of kinds) {
      this.#claimedAt[kind] = now()
      this.#emptyKinds.add(kind)
    }
    try {
      const tasks = await store.claim(options)
      if (tasks.length > 0) for (const kind of kinds) this.#emptyKinds.delete(kind)
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

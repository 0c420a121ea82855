/**
 * When a server claims tasks from the store, of which kind, and how many. Pure: the owner makes the claims and looks again
 * at the time that a plan names.
 */
import { now } from '../../core/time.ts'
import { selectKinds, TASK_KINDS, type TaskKind } from '../model/task.ts'
import type { TaskClaimOptions } from '../store/claim-tasks.ts'
import type { ClaimedTasks } from './claimed-tasks.ts'
import type { TaskExecutor } from './executor.ts'

/** Least time between two claims that are small beside what runs, in ms. */
const MIN_CLAIM_INTERVAL_MS = 20

/** Longest time for which an executor is skipped while it has capacity, in ms. */
const MAX_SKIP_MS = 250

/** Outcomes that wait to be stored, in bundles, beyond which nothing more is claimed. */
const MAX_UNSTORED_BUNDLES = 10

/** One claim that is to be made. Without a kind it takes tasks of every kind, in the order of submission. */
export type ClaimRequest = Pick<TaskClaimOptions, 'kind'> & { readonly limit: number }

export interface ClaimPlan {
  readonly claims: readonly ClaimRequest[]
  /** When a plan is to be made again even if nothing happens, on the clock of `now()`; undefined: no need. */
  readonly retryAt: number | undefined
}

/** What the executors of one kind would take. */
interface KindCapacity {
  readonly kind: TaskKind
  readonly limit: number
  /** Whether tasks of this kind may be claimed in their turn, together with the other kind. */
  readonly isOpen: boolean
}

/** An executor that got nothing of a whole claim: what is first in the store is for others. */
interface Skip {
  readonly waitMs: number
  readonly until: number
}

export class ClaimScheduler {
  readonly #bundleSize: number
  /** Kinds whose last claim gave nothing, while nothing has happened since. */
  readonly #emptyKinds = new Set<TaskKind>()
  /** When each kind was last claimed. */
  readonly #claimedAt = { shell: 0, request: 0 }
  readonly #skips = new Map<TaskExecutor, Skip>()
  /** Of the plan that is being made. */
  #retryAt: number | undefined

  /** @param bundleSize most tasks of one claim */
  constructor(bundleSize: number) {
    this.#bundleSize = bundleSize
  }

  /** The last claim of each kind gave nothing, and nothing has happened since. */
  get hasNothingToClaim(): boolean {
    return this.#emptyKinds.size === TASK_KINDS.length
  }

  /** There may be tasks again. */
  expectNewTasks(): void {
    this.#emptyKinds.clear()
  }

  /**
   * The claims that are worth a transaction now:
   *
   * 1. Too many outcomes wait to be stored: none.
   * 2. Every kind is open: one claim for all kinds, as large as the kind with most capacity can take.
   * 3. A kind is full or was skipped: a claim for each kind alone, which passes all waiting tasks of the other kind.
   *
   * Of these, only those that are worth it (cases 8 to 10).
   */
  planClaims(
    executors: readonly TaskExecutor[],
    claimed: ClaimedTasks,
    unstoredOutcomes: number,
  ): ClaimPlan {
    // 1.
    if (unstoredOutcomes > MAX_UNSTORED_BUNDLES * this.#bundleSize) {
      return { claims: [], retryAt: undefined }
    }
    this.#retryAt = undefined
    const kinds = TASK_KINDS.map((kind) => this.#capacityOf(kind, executors, claimed))
    const requests: ClaimRequest[] = kinds.every(({ isOpen }) => isOpen)
      ? // 2.
        [{ limit: Math.max(...kinds.map(({ limit }) => limit)) }]
      : // 3.
        kinds.map(({ kind, limit }) => ({ kind, limit }))
    const claims = requests.filter((one) => this.#isWorthClaiming(one, claimed.runningCount))
    return { claims, retryAt: this.#retryAt }
  }

  /**
   * How many tasks of a kind would start at once:
   *
   * 4. No executor of this kind is here: none, and the kind is open, so that its tasks are claimed in their turn and refused.
   * 5. A bundle of this kind waits here already: none.
   * 6. An executor that has tasks waiting here is left out. So is one that was skipped a moment ago while other tasks run;
   *    when its time is over its kind is claimed alone.
   * 7. Of the other executors, the one with most capacity counts. The kind is open if one that was not skipped has
   *    capacity, and none of its tasks waits here.
   */
  #capacityOf(
    kind: TaskKind,
    executors: readonly TaskExecutor[],
    claimed: ClaimedTasks,
  ): KindCapacity {
    const own = executors.filter((one) => one.kind === kind)
    // 4.
    if (own.length === 0) return { kind, limit: 0, isOpen: true }
    const waiting = own.reduce((sum, one) => sum + claimed.countWaiting(one), 0)
    // 5.
    if (waiting >= this.#bundleSize) return { kind, limit: 0, isOpen: false }
    const at = now()
    let limit = 0
    let skippedUntil = Number.POSITIVE_INFINITY
    let isOpen = false
    for (const one of own) {
      // 6.
      if (claimed.countWaiting(one) > 0) continue
      const skip = claimed.size > 0 ? this.#skips.get(one) : undefined
      if (skip && skip.until > at) {
        skippedUntil = Math.min(skippedUntil, skip.until)
        continue
      }
      // 7.
      const capacity = one.availableCapacity()
      limit = Math.max(limit, capacity)
      if (!skip && capacity > 0 && waiting === 0) isOpen = true
    }
    if (limit === 0 && skippedUntil < Number.POSITIVE_INFINITY) this.#planRetry(skippedUntil)
    return { kind, limit: Math.min(limit, this.#bundleSize), isOpen }
  }

  /**
   * Whether a claim is worth a transaction now:
   *
   * 8. It may take no task, or its kinds are known to be empty: no.
   * 9. It is small beside what runs, and its kind was claimed a moment ago: later.
   * 10. Else: yes.
   */
  #isWorthClaiming({ kind, limit }: ClaimRequest, running: number): boolean {
    const kinds = selectKinds(kind)
    // 8.
    if (limit <= 0 || kinds.every((one) => this.#emptyKinds.has(one))) return false
    // 9.
    const isSmall = limit < Math.min(running / 2, this.#bundleSize)
    const nextAt = Math.max(...kinds.map((one) => this.#claimedAt[one])) + MIN_CLAIM_INTERVAL_MS
    if (isSmall && now() < nextAt) {
      this.#planRetry(nextAt)
      return false
    }
    // 10.
    return true
  }

  /** To be called before the claim is made: what is added to the store from here on may be missed by it. */
  beginClaim({ kind }: ClaimRequest): void {
    for (const one of selectKinds(kind)) {
      this.#claimedAt[one] = now()
      this.#emptyKinds.add(one)
    }
  }

  /**
   * What a claim gave. For each executor of the claimed kinds:
   *
   * 11. It got a task: it is not skipped.
   * 12. The claim was whole (as many tasks as it asked for, of which an executor here got some), and this executor got
   *     none: it is skipped, for twice as long as the last time.
   * 13. The claim was for its kind alone and not whole, and the executor was skipped before: still skipped, as in 12, for
   *     a claim of one kind says nothing of the tasks of the other kind that are first in the store.
   * 14. Else: it is not skipped.
   */
  recordClaim(
    { kind, limit }: ClaimRequest,
    count: number,
    takers: ReadonlySet<TaskExecutor>,
    executors: readonly TaskExecutor[],
  ): void {
    const kinds = selectKinds(kind)
    if (count > 0) for (const one of kinds) this.#emptyKinds.delete(one)
    // Tasks that no executor here takes end at once, and hold nobody back.
    const isWhole = count === limit && executors.some((one) => takers.has(one))
    for (const one of executors) {
      if (!kinds.includes(one.kind)) continue
      const lastWaitMs = this.#skips.get(one)?.waitMs
      const isSkipped =
        !takers.has(one) && // 11.
        (isWhole || // 12.
          (kind !== undefined && lastWaitMs !== undefined)) // 13.
      if (isSkipped) {
        const waitMs = Math.min(MAX_SKIP_MS, 2 * (lastWaitMs ?? MIN_CLAIM_INTERVAL_MS / 2))
        this.#skips.set(one, { waitMs, until: now() + waitMs })
      } else {
        // 14.
        this.#skips.delete(one)
      }
    }
  }

  #planRetry(at: number): void {
    this.#retryAt = Math.min(this.#retryAt ?? Number.POSITIVE_INFINITY, at)
  }
}

/** Makes the claims that are worth it, and hands the tasks to the executors that take them. */
import type { ManyhostError } from '../../core/errors.ts'
import type { Task } from '../model/task.ts'
import type { Store } from '../store/store.ts'
import { type ClaimRequest, ClaimScheduler } from './claim-scheduler.ts'
import type { ClaimedTasks } from './claimed-tasks.ts'
import type { TaskExecutor } from './executor.ts'
import type { ClusterRunSettings } from './options.ts'
import type { ProblemReporter } from './problem-reporter.ts'
import type { ResultReporter } from './result-reporter.ts'
import type { TaskRouter } from './task-router.ts'
import type { TaskServerLease } from './task-server-lease.ts'

export interface TaskClaimerParts {
  readonly store: Store
  readonly settings: ClusterRunSettings
  readonly batches: readonly string[]
  readonly maxAttempts: number
  readonly claimed: ClaimedTasks
  readonly router: TaskRouter
  readonly lease: TaskServerLease
  readonly results: ResultReporter
  readonly problems: ProblemReporter
}

export interface ClaimedCount {
  readonly count: number
  /** When to claim again even if nothing happens, on the clock of `now()`; undefined: no need. */
  readonly retryAt: number | undefined
}

export class TaskClaimer {
  readonly #parts: TaskClaimerParts
  readonly #scheduler: ClaimScheduler

  constructor(parts: TaskClaimerParts) {
    this.#parts = parts
    this.#scheduler = new ClaimScheduler(parts.settings.bundleSize)
  }

  /** The last claims gave nothing, and nothing has happened since. */
  get hasNothingToClaim(): boolean {
    return this.#scheduler.hasNothingToClaim
  }

  /** There may be tasks again. */
  expectNewTasks(): void {
    this.#scheduler.expectNewTasks()
  }

  /** Claims tasks that can be started now. They wait in `claimed` for their executors. */
  async claimTasks(unstoredOutcomes: number): Promise<ClaimedCount> {
    const { router, claimed, results } = this.#parts
    const executors = router.listExecutors()
    const plan = this.#scheduler.planClaims(executors, claimed, unstoredOutcomes)
    const { claims, retryAt } = plan
    if (claims.length === 0) return { count: 0, retryAt }
    // A reader of results that is slow slows the tasks down.
    await results.waitUntilTaken()
    let count = 0
    for (const request of claims) {
      const tasks = await this.#claim(request)
      const takers = new Set<TaskExecutor>()
      for (const one of tasks) {
        const task = this.#withDefaultTemplate(one)
        const executor = router.executorFor(task)
        claimed.addWaiting(task, executor)
        takers.add(executor)
      }
      this.#scheduler.recordClaim(request, tasks.length, takers, executors)
      count += tasks.length
    }
    return { count, retryAt }
  }

  async #claim(request: ClaimRequest): Promise<Task[]> {
    const { store, lease, maxAttempts: attempts, batches, settings, problems } = this.#parts
    const { eager } = settings
    this.#scheduler.beginClaim(request)
    try {
      return await store.claim({ ...request, server: lease.id, attempts, eager, batches })
    } catch (error) {
      const { code, message } = error as ManyhostError
      if (code !== 'MANYHOST_SERVER_EVICTED') {
        // The claim found nothing out: the next pass tries again, and does not wait for the poll.
        this.#scheduler.expectNewTasks()
        throw error
      }
      // The next renewal of the lease gives the server a new id.
      problems.report(message)
      return []
    }
  }

  /** Tasks of an older version were stored without a template: with `restart` they get the one that is given now. */
  #withDefaultTemplate(task: Task): Task {
    const { restart, template } = this.#parts.settings
    const { cwd, request, command } = task
    const isComplete =
      cwd !== null || request !== null || command !== null || task.template !== null
    return restart && template !== '{}' && !isComplete ? { ...task, template } : task
  }
}

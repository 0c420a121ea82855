/** What is left to be done, kept up to date for people and for scaling; and how many runners are wanted for it. */
import { every, now, type Timer } from '../../core/time.ts'
import { DynamicTasks, FixedTasks, type TaskWorkload } from '../model/scaling.ts'
import type { StoreProgress } from '../store/counts.ts'
import type { Store } from '../store/store.ts'
import type { ClusterRunSettings } from './options.ts'

/** How often the store is asked, in ms. */
const REFRESH_INTERVAL_MS = 500

/** What is asked of the store. */
interface ProgressQuery {
  readonly store: Store
  readonly maxAttempts: number
  readonly batches: readonly string[]
}

export class TaskProgressMonitor {
  readonly #query: ProgressQuery
  readonly #timer: Timer
  readonly #removeAddedListener: () => void
  #progress: StoreProgress | undefined
  #isRefreshing = false

  constructor(query: ProgressQuery) {
    this.#query = query
    void this.#refresh()
    this.#timer = every(REFRESH_INTERVAL_MS, () => void this.#refresh())
    this.#removeAddedListener = query.store.onAdded(() => {
      if (!this.#progress?.remaining) void this.#refresh()
    })
  }

  /** Of the batches that the server works off; undefined before the first answer of the store. */
  get progress(): StoreProgress | undefined {
    return this.#progress
  }

  close(): void {
    this.#timer.clear()
    this.#removeAddedListener()
  }

  async #refresh(): Promise<void> {
    if (this.#isRefreshing) return
    this.#isRefreshing = true
    try {
      const { store, maxAttempts, batches } = this.#query
      this.#progress = await store.progress(maxAttempts, batches)
    } catch {
      // The server meets the same error when it claims tasks, and reports it.
    } finally {
      this.#isRefreshing = false
    }
  }
}

type RunnerScalingSettings = Pick<
  ClusterRunSettings,
  | 'autoscaling'
  | 'clientTimeout'
  | 'factor'
  | 'maxSize'
  | 'minSize'
  | 'period'
  | 'numTasks'
  | 'runners'
>

/** What scaling reads of the task server. */
export interface TaskServerLoad {
  readonly claimedCount: number
  readonly state: 'working' | 'draining' | 'ended'
  readonly progress: StoreProgress | undefined
}

/** What the session reads as the number of runners; undefined: the number that it started with stays. */
export function createRunnerSize(
  settings: RunnerScalingSettings,
  load: TaskServerLoad,
): (() => number) | undefined {
  const { autoscaling, clientTimeout, runners, factor, period, minSize, numTasks } = settings
  if (autoscaling) {
    const maxSize = settings.maxSize ?? Math.max(runners, 1)
    const policy = autoscaling === 'fixed' ? FixedTasks : DynamicTasks
    const options = { initSize: runners, minSize, maxSize, factor, period, numTasks }
    const size = new policy(() => readWorkload(load), options)
    return () => size.valueOf()
  }
  if (clientTimeout <= 0) return undefined
  let busyAt = now()
  return () => {
    if (load.claimedCount > 0 || (load.progress?.remaining ?? 1) > 0) busyAt = now()
    return now() - busyAt >= clientTimeout ? 0 : runners
  }
}

function readWorkload({ claimedCount, state, progress }: TaskServerLoad): TaskWorkload {
  return {
    // Before the first answer of the store: as if there were a task.
    remaining: Math.max(progress?.remaining ?? 1, claimedCount),
    running: claimedCount,
    rate: progress?.rate ?? null,
    averageDuration: progress?.averageDuration ?? null,
    isClosed: state !== 'working',
  }
}

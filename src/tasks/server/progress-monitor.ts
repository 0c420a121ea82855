/** What is left to be done, brought up to date for people and for scaling; and the runners that are wanted for it. */
import { every, now, type Timer } from '../../core/time.ts'
import { DynamicTasks, FixedTasks, type TaskWorkload } from '../model/scaling.ts'
import type { StoreProgress } from '../store/counts.ts'
import type { ClusterRunSettings } from './options.ts'
import type { TaskServer } from './task-server.ts'

/** How often it is asked for, in ms. */
const REFRESH_INTERVAL_MS = 500

export class TaskProgressMonitor {
  readonly #server: TaskServer
  readonly #timer: Timer
  readonly #removeAddedListener: () => void
  #progress: StoreProgress | undefined
  #isRefreshing = false

  constructor(server: TaskServer) {
    this.#server = server
    void this.#refresh()
    this.#timer = every(REFRESH_INTERVAL_MS, () => void this.#refresh())
    this.#removeAddedListener = server.store.onAdded(() => {
      if (!this.#progress?.remaining) void this.#refresh()
    })
  }

  /** Of all that the server works off. */
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
      const { store, maxAttempts: attempts, batches } = this.#server
      this.#progress = await store.progress(attempts, batches)
    } catch {
      // What is wrong with the store is told by who needs it.
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

/** What scaling reads of the server. */
type TaskServerLoad = Pick<TaskServer, 'claimedCount' | 'state'>

/** What the session is to read as the size of the runners' cluster; undefined: as many as it started with. */
export function createRunnerSize(
  settings: RunnerScalingSettings,
  server: TaskServerLoad,
  progress: () => StoreProgress | undefined,
): (() => number) | undefined {
  const { autoscaling, clientTimeout, runners, factor, period, minSize, numTasks } = settings
  if (autoscaling) {
    const maxSize = settings.maxSize ?? Math.max(runners, 1)
    const policy = autoscaling === 'fixed' ? FixedTasks : DynamicTasks
    const options = { initSize: runners, minSize, maxSize, factor, period, numTasks }
    const size = new policy(() => readWorkload(server, progress()), options)
    return () => size.valueOf()
  }
  if (clientTimeout <= 0) return undefined
  let busyAt = now()
  return () => {
    if (server.claimedCount > 0 || (progress()?.remaining ?? 1) > 0) busyAt = now()
    return now() - busyAt >= clientTimeout ? 0 : runners
  }
}

function readWorkload(server: TaskServerLoad, progress: StoreProgress | undefined): TaskWorkload {
  return {
    // Nobody has looked yet: as if there were something.
    remaining: Math.max(progress?.remaining ?? 1, server.claimedCount),
    running: server.claimedCount,
    rate: progress?.rate ?? null,
    averageDuration: progress?.averageDuration ?? null,
    isClosed: server.state !== 'working',
  }
}

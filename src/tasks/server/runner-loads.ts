/**
 * How many tasks each runner has, and how many more it is to get. Pure.
 *
 * A runner gets as many tasks as it runs at a time, and beyond that as many as it finishes while an answer and the next bundle
 * are under way: many tasks of a millisecond, but no long task, which would wait there while another runner is free.
 *
 * A bundle goes through these states:
 *
 *   queued ──> assigned to a runner ──> confirmed by the runner's hello ──> its tasks end one by one
 *   (addQueuedBundle) (assignQueuedBundle)   (confirmBundle)                (removeEndedTasks)
 */
import { MeanDuration } from './mean-duration.ts'

/** Maximum work that is sent to a runner in advance, in ms. */
const PREFETCH_WINDOW_MS = 200

/** Tasks that take at least this long on average are not sent ahead. */
const LONG_TASK_MS = 2_000

/** Most tasks ahead of one runner. */
const MAX_PREFETCHED_TASKS = 500

/** A clock of milliseconds cannot measure anything shorter. */
const MIN_TASK_DURATION_MS = 0.5

/**
 * Tasks that are sent beyond the free slots.
 * @param meanDurationMs `null`: unknown
 */
export function computePrefetch(slots: number, meanDurationMs: number | null): number {
  if (meanDurationMs === null || meanDurationMs >= LONG_TASK_MS) return 0
  return Math.min(
    MAX_PREFETCHED_TASKS,
    Math.ceil((slots * PREFETCH_WINDOW_MS) / Math.max(MIN_TASK_DURATION_MS, meanDurationMs)),
  )
}

/** What the choice of a runner reads of it: an instance of its cluster, or a target of the queue. */
export interface RunnerCandidate {
  readonly id: string
  readonly inFlight: number
}

interface RunnerState {
  numTasks: number
  /** Tasks of confirmed bundles that have no outcome yet. */
  tasks: number
  /** Sizes of bundles that are assigned to it and not confirmed yet. */
  readonly assignedBundles: number[]
}

export class RunnerLoads {
  readonly #defaultNumTasks: number
  readonly #runners = new Map<string, RunnerState>()
  /** Sizes of bundles that are not assigned yet, oldest first. Few: at most one for each runner. */
  readonly #queuedBundleSizes: number[] = []
  readonly #meanDuration = new MeanDuration()

  /** @param numTasks tasks that a runner is taken to run at a time until its hello says how many */
  constructor(numTasks: number) {
    this.#defaultNumTasks = numTasks
  }

  /** Of recent tasks; `null` before the first one. */
  get meanDurationMs(): number | null {
    return this.#meanDuration.ms
  }

  recordDuration(ms: number): void {
    this.#meanDuration.add(ms)
  }

  get queuedBundleCount(): number {
    return this.#queuedBundleSizes.length
  }

  /** Tasks that a runner would take now; negative if it has too many. */
  availableCapacity(id: string): number {
    const { numTasks, tasks, assignedBundles } = this.#runnerState(id)
    const prefetched = computePrefetch(numTasks, this.#meanDuration.ms)
    return numTasks + prefetched - tasks - sum(assignedBundles)
  }

  /** Index of the runner with most capacity; -1 if none fits. Of equal ones the first from `turn` on is taken. */
  findBestRunner(
    runners: readonly RunnerCandidate[],
    fits: (one: RunnerCandidate) => boolean,
    turn = 0,
  ): number {
    let best = -1
    let bestCapacity = Number.NEGATIVE_INFINITY
    for (let step = 0; step < runners.length; step++) {
      const index = (turn + step) % runners.length
      const one = runners[index] as RunnerCandidate
      const capacity = this.availableCapacity(one.id)
      if (capacity > bestCapacity && fits(one)) {
        best = index
        bestCapacity = capacity
      }
    }
    return best
  }

  /** A bundle goes into the queue. */
  addQueuedBundle(size: number): void {
    this.#queuedBundleSizes.push(size)
  }

  /** A bundle left the queue without getting a runner. */
  removeQueuedBundle(size: number): void {
    const at = this.#queuedBundleSizes.indexOf(size)
    if (at >= 0) this.#queuedBundleSizes.splice(at, 1)
  }

  /** The queue gives its first bundle to this runner. */
  assignQueuedBundle(id: string): void {
    const size = this.#queuedBundleSizes.shift()
    if (size !== undefined) this.#runnerState(id).assignedBundles.push(size)
  }

  /** The runner has said hello to a bundle. */
  confirmBundle(id: string, size: number, numTasks: number): void {
    const runner = this.#runnerState(id)
    runner.numTasks = numTasks
    runner.tasks += size
    this.removeAssignedBundle(id, size)
  }

  /** The bundle does not count as assigned any more: it was confirmed, or never reached the runner. */
  removeAssignedBundle(id: string, size: number): void {
    const { assignedBundles } = this.#runnerState(id)
    const at = assignedBundles.indexOf(size)
    if (at >= 0) assignedBundles.splice(at, 1)
    // The queue chose the runner without asking here, so the bundle still counts as queued.
    else this.removeQueuedBundle(size)
  }

  removeEndedTasks(id: string, count = 1): void {
    const runner = this.#runners.get(id)
    if (runner) runner.tasks = Math.max(0, runner.tasks - count)
  }

  removeRunner(id: string): void {
    this.#runners.delete(id)
  }

  #runnerState(id: string): RunnerState {
    let runner = this.#runners.get(id)
    if (!runner) {
      runner = { numTasks: this.#defaultNumTasks, tasks: 0, assignedBundles: [] }
      this.#runners.set(id, runner)
    }
    return runner
  }
}

function sum(numbers: readonly number[]): number {
  let total = 0
  for (const one of numbers) total += one
  return total
}

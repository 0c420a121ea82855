/**
 * How many tasks each runner holds, and how many more it is to get. Pure: facts in, numbers out.
 *
 * A runner gets as many tasks as it has places, and beyond that what it works off while an answer comes and the next
 * bundle goes: many of tasks that take a millisecond, none of those that take long, which would wait there while
 * another runner has a place free.
 */

/** What is worked off in so many ms is sent ahead. */
const PREFETCH_WINDOW_MS = 200

/** Of longer ones none is sent ahead. */
const LONG_TASK_MS = 2_000

/** Tasks ahead of one runner at most. */
const MAX_PREFETCHED_TASKS = 500

/** A clock of milliseconds cannot tell anything shorter. In ms. */
const MIN_TASK_DURATION_MS = 0.5

export function computePrefetch(slots: number, meanDurationMs: number | null): number {
  if (meanDurationMs === null || meanDurationMs >= LONG_TASK_MS) return 0
  return Math.min(
    MAX_PREFETCHED_TASKS,
    Math.ceil((slots * PREFETCH_WINDOW_MS) / Math.max(MIN_TASK_DURATION_MS, meanDurationMs)),
  )
}

/** What a choice reads of a runner: an instance, or a target of the queue. */
export interface RunnerCandidate {
  readonly id: string
  readonly inFlight: number
}

interface RunnerState {
  numTasks: number
  /** Tasks that it has said hello to, and that have no outcome. */
  tasks: number
  /** Tasks of bundles that were given to it, but to which it said nothing yet. */
  assignedBundles: number[]
}

export class RunnerLoads {
  readonly #defaultNumTasks: number
  readonly #runners = new Map<string, RunnerState>()
  /** Sizes of bundles that the queue has not given to a runner yet, oldest first. */
  #queuedBundleSizes: number[] = []
  #meanDurationMs: number | null = null

  /** @param places what a runner is taken to have until it says so itself */
  constructor(places: number) {
    this.#defaultNumTasks = places
  }

  /** Mean time of a task, in ms; lately rather than ever. */
  get meanDurationMs(): number | null {
    return this.#meanDurationMs
  }

  recordDuration(milliseconds: number): void {
    this.#meanDurationMs =
      this.#meanDurationMs === null
        ? milliseconds
        : this.#meanDurationMs * 0.95 + milliseconds * 0.05
  }

  /** Bundles that wait for a runner. */
  get queuedBundleCount(): number {
    return this.#queuedBundleSizes.length
  }

  availableCapacity(id: string): number {
    const { numTasks: places, tasks, assignedBundles: picked } = this.#runnerState(id)
    return places + computePrefetch(places, this.#meanDurationMs) - tasks - sum(picked)
  }

  /** The one with the most room; -1: none has any. Of two alike, the one after `turn`. */
  findBestRunner(
    runners: readonly RunnerCandidate[],
    fits: (one: RunnerCandidate) => boolean,
    turn = 0,
  ): number {
    let best = -1
    let most = Number.NEGATIVE_INFINITY
    for (let step = 0; step < runners.length; step++) {
      const index = (turn + step) % runners.length
      const one = runners[index] as RunnerCandidate
      const room = this.availableCapacity(one.id)
      if (room > most && fits(one)) {
        best = index
        most = room
      }
    }
    return best
  }

  /** A bundle goes into the queue. */
  addQueuedBundle(size: number): void {
    this.#queuedBundleSizes.push(size)
  }

  /** It left the queue without coming to a runner. */
  removeQueuedBundle(size: number): void {
    const at = this.#queuedBundleSizes.indexOf(size)
    if (at >= 0) this.#queuedBundleSizes.splice(at, 1)
  }

  /** The queue gives its first bundle to this runner. */
  assignQueuedBundle(id: string): void {
    const size = this.#queuedBundleSizes.shift()
    if (size !== undefined) this.#runnerState(id).assignedBundles.push(size)
  }

  /** A runner has said hello to a bundle. */
  confirmBundle(id: string, size: number, places: number): void {
    const runner = this.#runnerState(id)
    runner.numTasks = places
    runner.tasks += size
    this.removeAssignedBundle(id, size)
  }

  /** A bundle never came to the runner that it was given to. */
  removeAssignedBundle(id: string, size: number): void {
    const { assignedBundles: picked } = this.#runnerState(id)
    const at = picked.indexOf(size)
    if (at >= 0) picked.splice(at, 1)
    // Not picked by these books: the queue chose by itself.
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

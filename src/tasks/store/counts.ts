/** What follows from the kept counts: tasks by state and group, and the group whose turn it is. Pure. */
import type { TaskState } from '../model/task-columns.ts'
import type { CountTable } from './tables.ts'

export type TaskCountRow = Pick<CountTable, 'batch' | 'group' | 'attempt' | 'state' | 'n'>

export interface TaskStateCounts extends Readonly<Record<TaskState, number>> {
  /** All rows; each attempt is a row. */
  readonly total: number
}

export function sumCounts(counted: readonly TaskCountRow[]): TaskStateCounts {
  const counts = {
    new: 0,
    scheduled: 0,
    succeeded: 0,
    failed: 0,
    retried: 0,
    cancelled: 0,
    total: 0,
  }
  for (const { state, n } of counted) {
    counts[state] += n
    counts.total += n
  }
  return counts
}

/** One group of tasks. */
export interface TaskGroup extends TaskStateCounts {
  readonly group: number
  /** Tasks that are new, running, or failed with attempts left. */
  readonly remaining: number
  /** Tasks that failed and have no attempts left. */
  readonly failedForGood: number
}

/** All groups that have tasks, in their order. */
export function countGroups(counted: readonly TaskCountRow[], attempts: number): TaskGroup[] {
  const rows = new Map<number, TaskCountRow[]>()
  for (const one of counted) {
    const known = rows.get(one.group)
    if (known) known.push(one)
    else rows.set(one.group, [one])
  }
  return [...rows]
    .sort(([a], [b]) => a - b)
    .map(([group, own]) => {
      const counts = sumCounts(own)
      const failedForGood = own
        .filter(({ state, attempt }) => state === 'failed' && attempt >= attempts)
        .reduce((sum, { n }) => sum + n, 0)
      const remaining = counts.new + counts.scheduled + counts.failed - failedForGood
      return { group, ...counts, remaining, failedForGood }
    })
}

/** The group whose turn it is. `done`: no group has anything to do. */
export type TaskGroupTurn =
  | { readonly is: 'open'; readonly group: number }
  | { readonly is: 'blocked'; readonly group: number; readonly failedForGood: number }
  | { readonly is: 'done' }

/**
 * Finds the first group that has something to do. A group with tasks that failed for good holds back all later groups, since
 * their tasks may need its results. It is `blocked` only if a later group has something to do.
 */
export function decideGroupTurn(groups: readonly TaskGroup[]): TaskGroupTurn {
  for (const [index, { group, remaining, failedForGood }] of groups.entries()) {
    if (remaining > 0) return { is: 'open', group }
    if (failedForGood > 0 && groups.slice(index + 1).some((later) => later.remaining > 0)) {
      return { is: 'blocked', group, failedForGood }
    }
  }
  return { is: 'done' }
}

/** How fast the work proceeds, measured over the last outcomes. */
export interface StoreProgress extends TaskStateCounts {
  readonly remaining: number
  /** Outcomes per second, over the last thousand or the last minute, whichever are fewer. null: there was no outcome. */
  readonly rate: number | null
  /** Average milliseconds that a task took, over the same outcomes. null: no outcome has a duration. */
  readonly averageDuration: number | null
  /** Milliseconds until all is done at this rate. null: unknown. */
  readonly timeLeft: number | null
}

export interface OutcomeSample {
  readonly completion_time: number
  readonly duration: number | null
}

/** @param samples the last outcomes, newest first */
export function computeProgress(
  groups: readonly TaskGroup[],
  counts: TaskStateCounts,
  samples: readonly OutcomeSample[],
  at: number,
): StoreProgress {
  const remaining = groups.reduce((sum, group) => sum + group.remaining, 0)
  const oldest = samples.at(-1)
  // The span ends now, not at the last outcome, so that the rate falls when no more outcomes come.
  const span = oldest ? Math.max(at - oldest.completion_time, 1) : 0
  const rate = oldest ? (1_000 * samples.length) / span : null
  const spans = samples.flatMap(({ duration }) => (duration === null ? [] : [duration]))
  return {
    ...counts,
    remaining,
    rate,
    averageDuration:
      spans.length > 0 ? spans.reduce((sum, one) => sum + one, 0) / spans.length : null,
    timeLeft: remaining === 0 ? 0 : rate ? (1_000 * remaining) / rate : null,
  }
}

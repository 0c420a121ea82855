/** What the kept counts say: how many of which, and whose turn it is. Pure. */
import type { TaskState } from '../model/task-columns.ts'
import type { CountTable } from './tables.ts'

export type TaskCountRow = Pick<CountTable, 'batch' | 'group' | 'attempt' | 'state' | 'n'>

export interface TaskStateCounts extends Readonly<Record<TaskState, number>> {
  /** All rows; each attempt is one. */
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
  /** What is to be done yet: new ones, running ones, failures that have attempts left. */
  readonly remaining: number
  /** Failures without attempts left. */
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

/** Whose turn it is. `done`: nobody's. */
export type TaskGroupTurn =
  | { readonly is: 'open'; readonly group: number }
  | { readonly is: 'blocked'; readonly group: number; readonly failedForGood: number }
  | { readonly is: 'done' }

/**
 * The first group that has something to do. One whose tasks failed for good holds back those behind it: what they do
 * was to stand on its work. When nothing is left behind it, there is nothing to hold back.
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

/** How work gets on: measured over the last outcomes. */
export interface StoreProgress extends TaskStateCounts {
  readonly remaining: number
  /** Outcomes a second, over the last thousand or the last minute, whichever is less; null: none came. */
  readonly rate: number | null
  /** Milliseconds that a task takes, over the same ones; null where none told. */
  readonly averageDuration: number | null
  /** Milliseconds until all is done at this rate; null where that cannot be said. */
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
  // Up to now, not to the last outcome: when none comes any more, the rate falls.
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

/** The order of the tasks that match a filter, and how many of them are taken. */
import { ManyhostError } from '../../core/errors.ts'
import { TASK_COLUMNS, type TaskColumn } from '../model/task-columns.ts'
import type { ParsedTaskFilter } from './filter.ts'
import { selectSorted } from './queries.ts'
import type { StorePart } from './store-part.ts'

/** The first tasks of an order. */
export interface TaskOrder {
  /** A column. Tasks without a value there come last. @default the order of submission */
  readonly sort?: string
  readonly isDescending?: boolean
  /** @default all */
  readonly limit?: number
}

/** Finds the column to sort by. @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseSortColumn(where: string, sort: string | undefined): TaskColumn | undefined {
  if (sort === undefined || (TASK_COLUMNS as readonly string[]).includes(sort)) {
    return sort as TaskColumn | undefined
  }
  throw new ManyhostError(
    'MANYHOST_INVALID_OPTION',
    `${where}: there is no field '${sort}' to sort by; the fields are ${TASK_COLUMNS.slice(1).join(', ')}`,
  )
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function checkLimits(where: string, amounts: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(amounts)) {
    if (value >= 0 && (Number.isSafeInteger(value) || value === Number.POSITIVE_INFINITY)) continue
    throw new ManyhostError(
      'MANYHOST_INVALID_OPTION',
      `${where}: ${name} must be a whole number from 0 up, got ${value}`,
    )
  }
}

export interface SortedSeq {
  readonly seq: number
  readonly value: unknown
}

/** Reads the order alone, which is one number per task: first of the tasks with a value, then of those without. */
export async function readOrder(
  { engine, db }: StorePart,
  read: ParsedTaskFilter,
  sort: TaskColumn,
  isDescending: boolean,
  needed: number | undefined,
): Promise<SortedSeq[]> {
  const limit = needed === Number.POSITIVE_INFINITY ? undefined : needed
  const order: SortedSeq[] = []
  for (const has of ['value', 'none'] as const) {
    const rest = limit === undefined ? undefined : limit - order.length
    if (rest === 0) break
    const rows = await engine.all<SortedSeq>(selectSorted(db, read, sort, isDescending, rest, has))
    for (const row of rows) order.push(row)
  }
  return order
}

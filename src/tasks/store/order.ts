/** In which order, and how many, of the tasks that a filter fits. */
import { ManyhostError } from '../../core/errors.ts'
import type { Wanted } from './filter.ts'
import type { Ground } from './ground.ts'
import { sorted } from './queries.ts'
import { COLUMNS } from './tables.ts'

/** The first so many of an order. */
export interface Order {
  /** A column; what has no value comes last. @default the order of submission */
  readonly sort?: string
  readonly isDescending?: boolean
  /** @default all */
  readonly limit?: number
}

export type Column = (typeof COLUMNS)[number]

/** The column that is meant. @throws ManyhostError MANYHOST_INVALID_OPTION */
export function sortColumn(where: string, sort: string | undefined): Column | undefined {
  if (sort === undefined || (COLUMNS as readonly string[]).includes(sort)) {
    return sort as Column | undefined
  }
  throw new ManyhostError(
    'MANYHOST_INVALID_OPTION',
    `${where}: no field '${sort}' to sort by; there are ${COLUMNS.slice(1).join(', ')}`,
  )
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function checkAmounts(where: string, amounts: Readonly<Record<string, number>>): void {
  for (const [name, value] of Object.entries(amounts)) {
    if (value >= 0 && (Number.isSafeInteger(value) || value === Number.POSITIVE_INFINITY)) continue
    throw new ManyhostError(
      'MANYHOST_INVALID_OPTION',
      `${where}: ${name} is a whole number from 0 up, got ${value}`,
    )
  }
}

export interface Ordered {
  readonly seq: number
  readonly value: unknown
}

/** The order alone, which is a number a task: of those with a value, then of those without. */
export async function orderOf(
  { engine, db }: Pick<Ground, 'engine' | 'db'>,
  read: Wanted,
  sort: Column,
  isDescending: boolean,
  needed: number | undefined,
): Promise<Ordered[]> {
  const limit = needed === Number.POSITIVE_INFINITY ? undefined : needed
  const order: Ordered[] = []
  for (const has of ['value', 'none'] as const) {
    const rest = limit === undefined ? undefined : limit - order.length
    if (rest === 0) break
    const rows = await engine.all<Ordered>(sorted(db, read, sort, isDescending, rest, has))
    for (const row of rows) order.push(row)
  }
  return order
}

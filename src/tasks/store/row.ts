/** A task as the store has it (cells in the order of COLUMNS), as the program has it, and as JSON. */
import type { Tags, Task, TaskRequest } from '../task.ts'
import { COLUMNS } from './tables.ts'

/** One row of the table `task`. */
export type Cells = readonly unknown[]

/** A task, and its place in the order of submission. */
export interface Kept {
  readonly seq: number
  readonly task: Task
}

const CAMELS = new Map<string, string>()

const NAMES = COLUMNS.slice(1).map(camel) as readonly (keyof Task)[]

const TIMES: ReadonlySet<string> = new Set([
  'submit_time',
  'schedule_time',
  'start_time',
  'completion_time',
])

function camel(name: string): string {
  let made = CAMELS.get(name)
  if (made === undefined) {
    made = name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase())
    CAMELS.set(name, made)
  }
  return made
}

export function kept(cells: Cells): Kept {
  const task: Record<string, unknown> = {}
  for (const [index, name] of NAMES.entries()) task[name] = cells[index + 1]
  task.retried = task.retried === 1
  task.tag = task.tag === '{}' ? {} : (JSON.parse(task.tag as string) as Tags)
  task.request = task.request === null ? null : (JSON.parse(task.request as string) as TaskRequest)
  return { seq: cells[0] as number, task: task as unknown as Task }
}

/** The cells of these columns. */
export function cellsOf(task: Task, columns: readonly string[]): Cells {
  return columns.map((column) => {
    const value = task[camel(column) as keyof Task]
    if (column === 'retried') return value ? 1 : 0
    return value !== null && typeof value === 'object' ? JSON.stringify(value) : value
  })
}

/** A task as other programs read it: names in snake_case, times as ISO 8601, spans in milliseconds. */
export function taskAsJson(task: Task): Record<string, unknown> {
  const json: Record<string, unknown> = {}
  for (const [index, name] of NAMES.entries()) {
    const column = COLUMNS[index + 1] as string
    const value = task[name]
    json[column] =
      TIMES.has(column) && value !== null ? new Date(value as number).toISOString() : value
  }
  return json
}

export function isTime(column: string): boolean {
  return TIMES.has(column)
}

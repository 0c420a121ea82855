/** Converts a task between its row (cells in the order of TASK_COLUMNS), an object, and JSON. */

import type { RowCells } from '../../store/engine.ts'
import type { Task, TaskRequest } from '../model/task.ts'
import { TASK_COLUMNS } from '../model/task-columns.ts'
import { tagsFromJson, tagsToJson } from '../text/tags.ts'
import { formatTime, toSeconds } from '../text/units.ts'

/** A task, and its number in the order of submission. */
export interface StoredTask {
  readonly seq: number
  readonly task: Task
}

const CAMEL_CASE_NAMES = new Map<string, string>()

const TASK_FIELDS = TASK_COLUMNS.slice(1).map(toCamelCase) as readonly (keyof Task)[]

const TIME_COLUMNS: ReadonlySet<string> = new Set([
  'submit_time',
  'schedule_time',
  'start_time',
  'completion_time',
])

const DURATION_COLUMNS: ReadonlySet<string> = new Set(['timeout', 'waited', 'duration'])

function toCamelCase(name: string): string {
  let made = CAMEL_CASE_NAMES.get(name)
  if (made === undefined) {
    made = name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase())
    CAMEL_CASE_NAMES.set(name, made)
  }
  return made
}

/**
 * Reads the cells by their index instead of in a loop: an object literal has one hidden class from the beginning, and code that
 * handles such tasks is several times faster.
 */
export function readTaskRow(cells: RowCells): StoredTask {
  const tag = cells[30] as string
  const request = cells[31] as string | null
  const env = cells[37] as string | null
  const task: Task = {
    id: cells[1] as Task['id'],
    group: cells[2] as Task['group'],
    args: cells[3] as Task['args'],
    submitId: cells[4] as Task['submitId'],
    submitTime: cells[5] as Task['submitTime'],
    submitHost: cells[6] as Task['submitHost'],
    cores: cells[7] as Task['cores'],
    memory: cells[8] as Task['memory'],
    coresMax: cells[9] as Task['coresMax'],
    memoryMax: cells[10] as Task['memoryMax'],
    timeout: cells[11] as Task['timeout'],
    serverId: cells[12] as Task['serverId'],
    serverHost: cells[13] as Task['serverHost'],
    scheduleTime: cells[14] as Task['scheduleTime'],
    clientId: cells[15] as Task['clientId'],
    clientHost: cells[16] as Task['clientHost'],
    command: cells[17] as Task['command'],
    startTime: cells[18] as Task['startTime'],
    completionTime: cells[19] as Task['completionTime'],
    exitStatus: cells[20] as Task['exitStatus'],
    outpath: cells[21] as Task['outpath'],
    errpath: cells[22] as Task['errpath'],
    csvpath: cells[23] as Task['csvpath'],
    attempt: cells[24] as Task['attempt'],
    retried: cells[25] === 1,
    waited: cells[26] as Task['waited'],
    duration: cells[27] as Task['duration'],
    previousId: cells[28] as Task['previousId'],
    nextId: cells[29] as Task['nextId'],
    tag: tagsFromJson(tag),
    request: request === null ? null : (JSON.parse(request) as TaskRequest),
    fence: cells[32] as Task['fence'],
    batch: cells[33] as Task['batch'],
    cwd: cells[34] as Task['cwd'],
    template: cells[35] as Task['template'],
    shell: cells[36] as Task['shell'],
    env: env === null ? null : (JSON.parse(env) as Task['env']),
    attempts: cells[38] as Task['attempts'],
    captured: cells[39] === 1,
  }
  return { seq: cells[0] as number, task }
}

export function readTaskRows(rows: readonly RowCells[]): Task[] {
  return rows.map((cells) => readTaskRow(cells).task)
}

/** The cells of a task, for these columns. */
export function taskToCells(task: Task, columns: readonly string[]): RowCells {
  return columns.map((column) => {
    const value = task[toCamelCase(column) as keyof Task]
    if (column === 'retried' || column === 'captured') return value ? 1 : 0
    if (column === 'tag') return tagsToJson(task.tag)
    return value !== null && typeof value === 'object' ? JSON.stringify(value) : value
  })
}

/** A task as other programs read it: names in snake_case, times as ISO 8601 in UTC, durations in seconds. */
export function taskToJson(task: Task): Record<string, unknown> {
  const json: Record<string, unknown> = {}
  for (const [index, name] of TASK_FIELDS.entries()) {
    const column = TASK_COLUMNS[index + 1] as string
    const value = task[name]
    json[column] = value === null ? null : formatColumn(column, value)
  }
  return json
}

function formatColumn(column: string, value: unknown): unknown {
  if (TIME_COLUMNS.has(column)) return formatTime(value as number)
  return DURATION_COLUMNS.has(column) ? toSeconds(value as number) : value
}

/** Whether a column has milliseconds since 1970. */
export function isTimeColumn(column: string): boolean {
  return TIME_COLUMNS.has(column)
}

/** Whether a column has a length of time in milliseconds. */
export function isDurationColumn(column: string): boolean {
  return DURATION_COLUMNS.has(column)
}

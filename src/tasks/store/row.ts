/** A task as the store has it (cells in the order of COLUMNS), as the program has it, and as JSON. */
import { tagsFromJson, tagsToJson } from '../tags.ts'
import type { Task, TaskRequest } from '../task.ts'
import { timeText, toSeconds } from '../units.ts'
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

const SPANS: ReadonlySet<string> = new Set(['timeout', 'waited', 'duration'])

function camel(name: string): string {
  let made = CAMELS.get(name)
  if (made === undefined) {
    made = name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase())
    CAMELS.set(name, made)
  }
  return made
}

/** Written out, for a literal has one shape from its beginning: all who handle tasks are several times faster for it. */
export function kept(cells: Cells): Kept {
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

export function cellsAsTasks(rows: readonly Cells[]): Task[] {
  return rows.map((cells) => kept(cells).task)
}

/** The cells of these columns. */
export function cellsOf(task: Task, columns: readonly string[]): Cells {
  return columns.map((column) => {
    const value = task[camel(column) as keyof Task]
    if (column === 'retried' || column === 'captured') return value ? 1 : 0
    if (column === 'tag') return tagsToJson(task.tag)
    return value !== null && typeof value === 'object' ? JSON.stringify(value) : value
  })
}

/** A task as other programs read it: names in snake_case, times as ISO 8601 in UTC, spans in seconds. */
export function taskAsJson(task: Task): Record<string, unknown> {
  const json: Record<string, unknown> = {}
  for (const [index, name] of NAMES.entries()) {
    const column = COLUMNS[index + 1] as string
    const value = task[name]
    json[column] = value === null ? null : toText(column, value)
  }
  return json
}

function toText(column: string, value: unknown): unknown {
  if (TIMES.has(column)) return timeText(value as number)
  return SPANS.has(column) ? toSeconds(value as number) : value
}

/** A moment. */
export function isTime(column: string): boolean {
  return TIMES.has(column)
}

/** A length of time. */
export function isSpan(column: string): boolean {
  return SPANS.has(column)
}

/** What the store's tables are to the query builder. The same names on SQLite and on PostgreSQL. */
import type { Generated } from 'kysely'
import { TASK_KINDS, type TaskKind } from '../model/task.ts'

/** Names are the ancestor's. Times and spans are milliseconds, memory is bytes, `tag` and `request` are JSON. */
export interface TaskTable {
  /** Grows with each row and is never used again: the order in which tasks were handed in. */
  seq: Generated<number>
  id: string
  group: number
  args: string
  submit_id: string
  submit_time: number
  submit_host: string
  cores: number | null
  memory: number | null
  cores_max: number | null
  memory_max: number | null
  timeout: number | null
  server_id: string | null
  server_host: string | null
  schedule_time: number | null
  client_id: string | null
  client_host: string | null
  command: string | null
  start_time: number | null
  completion_time: number | null
  exit_status: number | null
  outpath: string | null
  errpath: string | null
  csvpath: string | null
  attempt: number
  retried: number
  waited: number | null
  duration: number | null
  previous_id: string | null
  next_id: string | null
  tag: string
  request: string | null
  fence: number
  /** Id of the run that works the task off; `''`: whoever serves the store. */
  batch: string
  cwd: string | null
  template: string | null
  shell: string | null
  /** JSON. */
  env: string | null
  /** How often the server that ran it last tries a task in all. */
  attempts: number | null
  /** 1: its output was kept. */
  captured: number | null
  /** Follows from the others (a generated column). */
  state: Generated<TaskState>
}

/**
 * `failed` is a failure that was not tried again (yet), `retried` one that was: then `next_id` has the next attempt.
 * A task is over when it is none of `new`, `scheduled`, and `failed` with attempts left.
 */
export type TaskState = 'new' | 'scheduled' | 'succeeded' | 'failed' | 'retried' | 'cancelled'

export const TASK_STATES: readonly TaskState[] = [
  'new',
  'scheduled',
  'succeeded',
  'failed',
  'retried',
  'cancelled',
]

/** In SQL: the kind of a task. */
export const TASK_KIND_SQL = "CASE WHEN request IS NULL THEN 'shell' ELSE 'request' END"

/**
 * In SQL: where a task stands. One that is new stands in the line of its kind, any other is where its state says. Kept by no
 * column but by an index, in place of the state: so a claim of one kind goes past none of the other, and no row costs more.
 */
export const STATE_OR_KIND_SQL = `CASE WHEN state = 'new' THEN ${TASK_KIND_SQL} ELSE state END`

export type TaskStateOrKind = TaskKind | Exclude<TaskState, 'new'>

export function splitNewByKind(state: TaskState): readonly TaskStateOrKind[] {
  return state === 'new' ? TASK_KINDS : [state]
}

export interface CountTable {
  batch: string
  group: number
  attempt: number
  state: TaskState
  /** So that connections do not wait for each other's counts; they are added up when read. */
  shard: number
  n: number
}

export interface ServerTable {
  id: string
  host: string
  started_at: number
  heartbeat_at: number
  ended_at: number | null
  evicted: number
  /** The batch that it works off. */
  batch: string
  /** 1: it also serves tasks of no batch. */
  is_open: number
}

export interface ClientTable {
  id: string
  host: string
  server_id: string
  server_host: string
  connected_at: number
  disconnected_at: number | null
  evicted: number
}

export interface StoreTables {
  task: TaskTable
  task_tag: { key: string; value: string; seq: number }
  task_count: CountTable
  server: ServerTable
  client: ClientTable
  meta: { name: string; value: number }
}

/** All columns of a task, in the order in which rows are read and written. */
export const TASK_COLUMNS = [
  'seq',
  'id',
  'group',
  'args',
  'submit_id',
  'submit_time',
  'submit_host',
  'cores',
  'memory',
  'cores_max',
  'memory_max',
  'timeout',
  'server_id',
  'server_host',
  'schedule_time',
  'client_id',
  'client_host',
  'command',
  'start_time',
  'completion_time',
  'exit_status',
  'outpath',
  'errpath',
  'csvpath',
  'attempt',
  'retried',
  'waited',
  'duration',
  'previous_id',
  'next_id',
  'tag',
  'request',
  'fence',
  'batch',
  'cwd',
  'template',
  'shell',
  'env',
  'attempts',
  'captured',
] as const satisfies readonly (keyof TaskTable)[]

/** How a column is kept; what a filter may compare it with follows from this. */
export const COLUMN_KINDS: Readonly<
  Record<(typeof TASK_COLUMNS)[number], 'text' | 'whole' | 'real'>
> = {
  seq: 'whole',
  id: 'text',
  group: 'whole',
  args: 'text',
  submit_id: 'text',
  submit_time: 'whole',
  submit_host: 'text',
  cores: 'real',
  memory: 'real',
  cores_max: 'real',
  memory_max: 'real',
  timeout: 'real',
  server_id: 'text',
  server_host: 'text',
  schedule_time: 'whole',
  client_id: 'text',
  client_host: 'text',
  command: 'text',
  start_time: 'whole',
  completion_time: 'whole',
  exit_status: 'whole',
  outpath: 'text',
  errpath: 'text',
  csvpath: 'text',
  attempt: 'whole',
  retried: 'whole',
  waited: 'whole',
  duration: 'whole',
  previous_id: 'text',
  next_id: 'text',
  tag: 'text',
  request: 'text',
  fence: 'whole',
  batch: 'text',
  cwd: 'text',
  template: 'text',
  shell: 'text',
  env: 'text',
  attempts: 'whole',
  captured: 'whole',
}

/** The tables of a store, for the query builder. The names are the same on SQLite and on PostgreSQL. */
import type { Generated } from 'kysely'
import { TASK_KINDS, type TaskKind } from '../model/task.ts'
import {
  COLUMN_KINDS,
  TASK_COLUMNS,
  type TaskColumn,
  type TaskState,
} from '../model/task-columns.ts'

/** The names are HyperShell's. Times and durations are milliseconds, memory is bytes, `tag` and `request` are JSON. */
export interface TaskTable {
  /** Grows with each row and is never reused: the order in which tasks were added. */
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
  /** Id of the run that the task belongs to; `''`: any server of the store may run it. */
  batch: string
  cwd: string | null
  template: string | null
  shell: string | null
  /** JSON. */
  env: string | null
  /** How often a task is tried in all, as the server says that ran it last. */
  attempts: number | null
  /** 1: its output was kept. */
  captured: number | null
  /** A generated column: it follows from the other columns. */
  state: Generated<TaskState>
}

/** In SQL: the kind of a task. */
export const TASK_KIND_SQL = "CASE WHEN request IS NULL THEN 'shell' ELSE 'request' END"

/**
 * In SQL: the kind of a new task, the state of any other. It is kept by an index, in place of the state, and by no column: a
 * claim of one kind does not read tasks of the other kind, and rows are not larger for it.
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
  /** Each connection writes into a shard of its own, so that none waits for another. Readers add the shards up. */
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
  /** The batch that it works on. */
  batch: string
  /** 1: it also serves tasks without a batch. */
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

/** The SQL type of each kind of column, the same on both engines. */
const SQL_TYPES = { text: 'TEXT', whole: 'BIGINT', real: 'DOUBLE PRECISION' } as const

/** All columns of a task, quoted and with commas, for statements that are written by hand. */
export const TASK_COLUMNS_SQL = TASK_COLUMNS.map((name) => `"${name}"`).join(', ')

/** The type of a column in SQL. */
export function sqlTypeOf(column: TaskColumn): string {
  return SQL_TYPES[COLUMN_KINDS[column]]
}

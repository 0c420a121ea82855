/** The columns of a task, and its states: what filters, JSON lines and the store have in common. Pure. */

/**
 * How each column is kept. What a filter may compare a column with follows from its kind. The order of the columns is the
 * order in which rows are read and written.
 */
export const COLUMN_KINDS = {
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
} as const satisfies Readonly<Record<string, 'text' | 'whole' | 'real'>>

export type TaskColumn = keyof typeof COLUMN_KINDS

/** All columns of a task, in the order in which rows are read and written. */
export const TASK_COLUMNS = Object.keys(COLUMN_KINDS) as readonly TaskColumn[]

/**
 * `failed` is a failure that was not tried again (yet). `retried` is a failure that was tried again: `next_id` has its next
 * attempt. A task is over unless it is `new`, `scheduled`, or `failed` with attempts left.
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

/** Takes tasks back, cancels, changes and removes them: those of a claim, a client or a server, or all that match a filter. */
import { type RawBuilder, sql, type UpdateObject } from 'kysely'
import { ManyhostError } from '../../core/errors.ts'
import { createDict } from '../../core/null-prototype.ts'
import { wallClock } from '../../core/time.ts'
import type { Statements } from '../../store/engine.ts'
import type { Tags, TagValue, Task } from '../model/task.ts'
import type { TaskState } from '../model/task-columns.ts'
import { findTaskProblem, findTextProblem, LONGEST_ARGS } from '../model/validate-task.ts'
import { findTagProblem, findTagsProblem, tagsToJson } from '../text/tags.ts'
import type { TaskClaim } from './complete-tasks.ts'
import { type ParsedTaskFilter, parseTaskFilter, type TaskFilter } from './filter.ts'
import { checkLimits, parseSortColumn, readOrder, type TaskOrder } from './order.ts'
import { compilePageSeqs, selectPage } from './queries.ts'
import { readTaskRow, type StoredTask } from './row.ts'
import type { StoreContext } from './store-context.ts'
import type { StoreTables } from './tables.ts'

type TaskUpdate = UpdateObject<StoreTables, 'task'>

/** Tasks of one transaction, so that no other writer waits long. */
const ROWS_PER_TRANSACTION = 1_000

const UNCLAIMED_COLUMNS = {
  server_id: null,
  server_host: null,
  schedule_time: null,
  client_id: null,
  client_host: null,
  // A command that a template made when the task was accepted stays.
  command: sql<string | null>`CASE WHEN template IS NULL THEN NULL ELSE command END`,
  start_time: null,
  completion_time: null,
  exit_status: null,
  outpath: null,
  errpath: null,
  csvpath: null,
  cores_max: null,
  memory_max: null,
  waited: null,
  duration: null,
  attempts: null,
  captured: null,
} as const satisfies TaskUpdate

/** Puts all claimed tasks of a client or a server back into the queue. */
export function unclaimTasks(
  { db }: StoreContext,
  statements: Statements,
  { server, client }: { server?: string | undefined; client?: string | undefined },
): Promise<number> {
  let update = db
    .updateTable('task')
    .set(UNCLAIMED_COLUMNS)
    .where(sql<boolean>`task.state = 'scheduled'`)
  if (server !== undefined) update = update.where('server_id', '=', server)
  if (client !== undefined) update = update.where('client_id', '=', client)
  return statements.run(update.compile())
}

export async function releaseClaims(
  context: StoreContext,
  claims: readonly TaskClaim[],
): Promise<number> {
  if (claims.length === 0) return 0
  const { engine, db, notifyAdded } = context
  const released = await engine.transaction(async (statements) => {
    let count = 0
    for (const { id, fence } of claims) {
      count += await statements.run(
        db
          .updateTable('task')
          .set(UNCLAIMED_COLUMNS)
          .where('id', '=', id)
          .where('fence', '=', fence)
          .where(sql<boolean>`task.state = 'scheduled'`)
          .compile(),
      )
    }
    if (count > 0) await engine.wake(statements)
    return count
  })
  if (released > 0) notifyAdded()
  return released
}

export async function revertTasks(
  context: StoreContext,
  filter: TaskFilter,
  order: TaskOrder = {},
): Promise<number> {
  // A `retried` row is not reverted: of a task that was tried again, only the last attempt can go back.
  const reverted = await changeMatching(
    context,
    filter,
    ['scheduled', 'succeeded', 'failed', 'cancelled'],
    UNCLAIMED_COLUMNS,
    order,
    { isClaimable: true },
  )
  if (reverted > 0) context.notifyAdded()
  return reverted
}

export function cancelTasks(
  context: StoreContext,
  filter: TaskFilter,
  order: TaskOrder = {},
): Promise<number> {
  const cancelled = {
    exit_status: -1,
    completion_time: wallClock(),
    // A task that nobody runs is reported by a server later: see `takeCancelled`.
    server_id: sql<string | null>`CASE WHEN completion_time IS NULL THEN server_id ELSE NULL END`,
  }
  return changeMatching(context, filter, ['new', 'scheduled', 'failed'], cancelled, order, {
    extraSql: IS_UNFINISHED,
  })
}

export function deleteTasks(
  context: StoreContext,
  filter: TaskFilter,
  order: TaskOrder = {},
): Promise<number> {
  return changeMatching(context, filter, undefined, 'delete', order)
}

/** Fields of a task that may be changed by hand. `null` removes a limit. */
export interface TaskChanges {
  readonly args?: string
  readonly group?: number
  readonly cores?: number | null
  readonly memory?: number | null
  readonly timeout?: number | null
  /** Added to the tags of the task. */
  readonly tag?: Tags
  readonly removeTags?: readonly string[]
}

const CHANGEABLE_FIELDS = ['args', 'group', 'cores', 'memory', 'timeout'] as const

export async function updateTasks(
  context: StoreContext,
  filter: TaskFilter,
  changes: TaskChanges,
  order: TaskOrder = {},
): Promise<number> {
  const { tag = {}, removeTags = [] } = changes
  const fields: Record<string, unknown> = {}
  for (const name of CHANGEABLE_FIELDS)
    if (changes[name] !== undefined) fields[name] = changes[name]
  // The template has to be expanded again.
  if (changes.args !== undefined) fields.command = null
  for (const name of Object.keys(changes)) {
    if (![...CHANGEABLE_FIELDS, 'tag', 'removeTags'].includes(name)) {
      throw updateError(
        `there is no field '${name}' to change; the fields are ${CHANGEABLE_FIELDS.join(', ')}, and tags`,
      )
    }
  }
  const problem =
    findTaskProblem({ ...pickNumbers(changes), args: changes.args ?? '', tag }) ??
    findTextProblem('args', changes.args ?? '', LONGEST_ARGS) ??
    removeTags.map((key) => findTagProblem(key, null)).find(Boolean)
  if (problem) throw updateError(problem)
  const isTagged = Object.keys(tag).length > 0 || removeTags.length > 0
  if (!isTagged && Object.keys(fields).length === 0)
    throw updateError('there is nothing to change: give a field or tags')
  const retag = (task: Task): TaskUpdate => {
    const tags = createDict<TagValue>({ ...task.tag, ...tag })
    for (const key of removeTags) delete tags[key]
    const tooMany = findTagsProblem(tags)
    if (tooMany) throw updateError(tooMany)
    return { ...fields, tag: tagsToJson(tags) }
  }
  const isMoved = changes.group !== undefined
  const change = isTagged ? retag : (fields as TaskUpdate)
  const changed = await changeMatching(context, filter, undefined, change, order, {
    isClaimable: isMoved,
  })
  if (isMoved && changed > 0) context.notifyAdded()
  return changed
}

function pickNumbers({ group, cores, memory, timeout }: TaskChanges): Record<string, number> {
  const given = Object.entries({ group, cores, memory, timeout })
  return Object.fromEntries(
    given.filter(([, value]) => value !== undefined && value !== null),
  ) as Record<string, number>
}

type TaskChange = TaskUpdate | 'delete' | ((task: Task) => TaskUpdate)
type ChosenTask = Pick<StoredTask, 'seq'> & Partial<StoredTask>

/** The task has no outcome, or it failed and its server will try it again. */
const IS_UNFINISHED = sql<boolean>`(task.state <> 'failed' OR task.attempt < task.attempts)`

interface ChangeOptions {
  /** Whether the change makes tasks claimable. @default false */
  readonly isClaimable?: boolean
  /** A condition beside the filter. */
  readonly extraSql?: RawBuilder<boolean> | undefined
}

/**
 * Changes the tasks that match, page by page. Each page is a transaction of its own, so that no other writer waits long. The
 * state of each task is checked again by the statement that changes it.
 */
async function changeMatching(
  context: StoreContext,
  filter: TaskFilter,
  states: readonly TaskState[] | undefined,
  change: TaskChange,
  { sort, isDescending = false, limit = Number.POSITIVE_INFINITY }: TaskOrder,
  { isClaimable = false, extraSql }: ChangeOptions = {},
): Promise<number> {
  const { engine, db } = context
  const read: ParsedTaskFilter = { ...parseTaskFilter(filter), extraSql }
  checkLimits('changes', { limit })
  const column = parseSortColumn('changes', sort)
  const allowed = states
    ? { ...read, states: new Set(states.filter((one) => read.states.has(one))) }
    : read
  if (allowed.states.size === 0) return 0
  const needsTasks = allowed.matches !== undefined || typeof change === 'function'
  // The order is read before anything changes, since a change may affect the sort column. A change of all tasks needs no order.
  const order =
    column !== undefined && limit < Number.POSITIVE_INFINITY
      ? await readOrder(context, allowed, column, isDescending, allowed.matches ? undefined : limit)
      : undefined
  let count = 0
  let at = 0
  let after: number | undefined
  for (;;) {
    const size = Math.min(
      ROWS_PER_TRANSACTION,
      allowed.matches ? ROWS_PER_TRANSACTION : limit - count,
    )
    const among = order?.slice(at, at + size).map(({ seq }) => seq)
    if (size <= 0 || among?.length === 0) return count
    const page = { after, limit: size, isDescending, among }
    const { found, changed } = await engine.transaction(async (statements) => {
      const rows: ChosenTask[] = needsTasks
        ? (await statements.cells(selectPage(db, allowed, page))).map(readTaskRow)
        : await statements.all<{ seq: number }>(compilePageSeqs(db, allowed, page))
      const chosen = reorderPage(rows, among)
        .filter(({ task }) => !allowed.matches || (task && allowed.matches(task)))
        .slice(0, limit - count)
      const changed = await applyChange(
        context,
        statements,
        chosen,
        change,
        states && allowed.states,
        extraSql,
      )
      if (isClaimable && chosen.length > 0) await engine.wake(statements)
      return { found: rows, changed }
    })
    count += changed
    at += size
    if (!order) after = found.at(-1)?.seq
    if (count >= limit || (!order && found.length < size)) return count
  }
}

/** A page is read in the order of submission. This restores the order that was asked for. */
function reorderPage(
  rows: readonly ChosenTask[],
  order: readonly number[] | undefined,
): readonly ChosenTask[] {
  if (!order) return rows
  const found = new Map(rows.map((row) => [row.seq, row]))
  return order.flatMap((seq) => found.get(seq) ?? [])
}

/** Returns how many tasks it changed: those that are still in one of the states. */
async function applyChange(
  { db }: StoreContext,
  statements: Statements,
  chosen: readonly ChosenTask[],
  change: TaskChange,
  states: ReadonlySet<TaskState> | undefined,
  extraSql: RawBuilder<boolean> | undefined,
): Promise<number> {
  if (chosen.length === 0) return 0
  if (typeof change === 'function') {
    let changed = 0
    for (const { seq, task } of chosen) {
      const set = change(task as Task)
      changed += await statements.run(
        db.updateTable('task').set(set).where('seq', '=', seq).compile(),
      )
    }
    return changed
  }
  const seqs = chosen.map(({ seq }) => seq)
  const one = change === 'delete' ? db.deleteFrom('task') : db.updateTable('task').set(change)
  let guarded = (one as ReturnType<typeof db.deleteFrom<'task'>>).where('task.seq', 'in', seqs)
  if (states) guarded = guarded.where('task.state', 'in', [...states])
  if (extraSql) guarded = guarded.where(extraSql)
  return statements.run(guarded.compile())
}

function updateError(problem: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', `update: ${problem}`)
}

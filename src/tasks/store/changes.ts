/** Tasks are taken back, cancelled, changed and removed: of one claim, one client, one server, or all that a filter fits. */
import { type RawBuilder, sql, type UpdateObject } from 'kysely'
import { dict } from '../../core/dict.ts'
import { ManyhostError } from '../../core/errors.ts'
import { wallClock } from '../../core/time.ts'
import { tagProblem, tagsProblem, tagsToJson } from '../tags.ts'
import type { Tags, TagValue, Task } from '../task.ts'
import { LONGEST_ARGS, taskProblem, textProblem } from './check.ts'
import type { Claim } from './claims.ts'
import type { Statements } from './engine.ts'
import { type TaskFilter, wanted } from './filter.ts'
import type { Ground } from './ground.ts'
import { checkAmounts, type Order, orderOf, sortColumn } from './order.ts'
import { page, pageOfSeqs } from './queries.ts'
import { type Kept, kept } from './row.ts'
import type { Tables, TaskState } from './tables.ts'

type Changed = UpdateObject<Tables, 'task'>

/** Tasks of one transaction. */
const BATCH = 1_000

const UNCLAIMED = {
  server_id: null,
  server_host: null,
  schedule_time: null,
  client_id: null,
  client_host: null,
  // What a template made when the task was accepted stays.
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
} as const satisfies Changed

/** All claims of a client or a server: back to the queue. */
export function unclaim(
  { db }: Ground,
  statements: Statements,
  { server, client }: { server?: string | undefined; client?: string | undefined },
): Promise<number> {
  let update = db.updateTable('task').set(UNCLAIMED).where(sql<boolean>`task.state = 'scheduled'`)
  if (server !== undefined) update = update.where('server_id', '=', server)
  if (client !== undefined) update = update.where('client_id', '=', client)
  return statements.run(update.compile())
}

export async function release(ground: Ground, claims: readonly Claim[]): Promise<number> {
  if (claims.length === 0) return 0
  const { engine, db, added } = ground
  const released = await engine.transaction(async (statements) => {
    let count = 0
    for (const { id, fence } of claims) {
      count += await statements.run(
        db
          .updateTable('task')
          .set(UNCLAIMED)
          .where('id', '=', id)
          .where('fence', '=', fence)
          .where(sql<boolean>`task.state = 'scheduled'`)
          .compile(),
      )
    }
    if (count > 0) await engine.wake(statements)
    return count
  })
  if (released > 0) added()
  return released
}

export async function revert(ground: Ground, filter: TaskFilter, order: Order): Promise<number> {
  // Of a task that was tried again, the last attempt is the one that can go back.
  const reverted = await each(
    ground,
    filter,
    ['scheduled', 'succeeded', 'failed', 'cancelled'],
    UNCLAIMED,
    order,
    { isClaimable: true },
  )
  if (reverted > 0) ground.added()
  return reverted
}

export function cancel(ground: Ground, filter: TaskFilter, order: Order): Promise<number> {
  const cancelled = {
    exit_status: -1,
    completion_time: wallClock(),
    // Of what nobody runs, a server is to tell: see `noteCancelled`.
    server_id: sql<string | null>`CASE WHEN completion_time IS NULL THEN server_id ELSE NULL END`,
  }
  return each(ground, filter, ['new', 'scheduled', 'failed'], cancelled, order, { also: UNENDED })
}

export function remove(ground: Ground, filter: TaskFilter, order: Order): Promise<number> {
  return each(ground, filter, undefined, 'delete', order)
}

/** What may be changed of a task by hand. `null` takes a limit away. */
export interface Changes {
  readonly args?: string
  readonly group?: number
  readonly cores?: number | null
  readonly memory?: number | null
  readonly timeout?: number | null
  /** Set, beside those that a task has. */
  readonly tag?: Tags
  readonly removeTags?: readonly string[]
}

const FIELDS = ['args', 'group', 'cores', 'memory', 'timeout'] as const

export async function update(
  ground: Ground,
  filter: TaskFilter,
  changes: Changes,
  order: Order,
): Promise<number> {
  const { tag = {}, removeTags = [] } = changes
  const fields: Record<string, unknown> = {}
  for (const name of FIELDS) if (changes[name] !== undefined) fields[name] = changes[name]
  // Its template is to be filled in anew.
  if (changes.args !== undefined) fields.command = null
  for (const name of Object.keys(changes)) {
    if (![...FIELDS, 'tag', 'removeTags'].includes(name)) {
      throw refused(`no field '${name}' to change; there are ${FIELDS.join(', ')}, and tags`)
    }
  }
  const problem =
    taskProblem({ ...numbers(changes), args: changes.args ?? '', tag }) ??
    textProblem('args', changes.args ?? '', LONGEST_ARGS) ??
    removeTags.map((key) => tagProblem(key, null)).find(Boolean)
  if (problem) throw refused(problem)
  const isTagged = Object.keys(tag).length > 0 || removeTags.length > 0
  if (!isTagged && Object.keys(fields).length === 0) throw refused('nothing to change')
  const retag = (task: Task): Changed => {
    const tags = dict<TagValue>({ ...task.tag, ...tag })
    for (const key of removeTags) delete tags[key]
    const tooMany = tagsProblem(tags)
    if (tooMany) throw refused(tooMany)
    return { ...fields, tag: tagsToJson(tags) }
  }
  const isMoved = changes.group !== undefined
  const change = isTagged ? retag : (fields as Changed)
  const changed = await each(ground, filter, undefined, change, order, { isClaimable: isMoved })
  if (isMoved && changed > 0) ground.added()
  return changed
}

function numbers({ group, cores, memory, timeout }: Changes): Record<string, number> {
  const given = Object.entries({ group, cores, memory, timeout })
  return Object.fromEntries(
    given.filter(([, value]) => value !== undefined && value !== null),
  ) as Record<string, number>
}

type Change = Changed | 'delete' | ((task: Task) => Changed)
type Chosen = Pick<Kept, 'seq'> & Partial<Kept>

/** Has no outcome, or one that its server will not leave at that. */
const UNENDED = sql<boolean>`(task.state <> 'failed' OR task.attempt < task.attempts)`

interface Special {
  /** Tasks can be claimed by it. @default false */
  readonly isClaimable?: boolean
  /** What must hold beside the filter. */
  readonly also?: RawBuilder<boolean> | undefined
}

/** Page by page, each in a transaction of its own, so that nobody waits long; the state is asked again when it changes. */
async function each(
  ground: Ground,
  filter: TaskFilter,
  states: readonly TaskState[] | undefined,
  change: Change,
  { sort, isDescending = false, limit = Number.POSITIVE_INFINITY }: Order,
  { isClaimable = false, also }: Special = {},
): Promise<number> {
  const { engine, db } = ground
  const read = { ...wanted(filter), also }
  checkAmounts('changes', { limit })
  const column = sortColumn('changes', sort)
  const fit = states
    ? { ...read, states: new Set(states.filter((one) => read.states.has(one))) }
    : read
  if (fit.states.size === 0) return 0
  const needsTasks = fit.matches !== undefined || typeof change === 'function'
  // Read before anything is changed: a change may be of what is sorted by. Who takes all needs none.
  const order =
    column !== undefined && limit < Number.POSITIVE_INFINITY
      ? await orderOf(ground, fit, column, isDescending, fit.matches ? undefined : limit)
      : undefined
  let count = 0
  let at = 0
  let after: number | undefined
  for (;;) {
    const size = Math.min(BATCH, fit.matches ? BATCH : limit - count)
    const among = order?.slice(at, at + size).map(({ seq }) => seq)
    if (size <= 0 || among?.length === 0) return count
    const asked = { after, limit: size, isDescending, among }
    const { found, changed } = await engine.transaction(async (statements) => {
      const rows: Chosen[] = needsTasks
        ? (await statements.cells(page(db, fit, asked))).map(kept)
        : await statements.all<{ seq: number }>(pageOfSeqs(db, fit, asked))
      const chosen = inOrder(rows, among)
        .filter(({ task }) => !fit.matches || (task && fit.matches(task)))
        .slice(0, limit - count)
      const changed = await apply(ground, statements, chosen, change, states && fit.states, also)
      if (isClaimable && chosen.length > 0) await engine.wake(statements)
      return { found: rows, changed }
    })
    count += changed
    at += size
    if (!order) after = found.at(-1)?.seq
    if (count >= limit || (!order && found.length < size)) return count
  }
}

/** A page comes in the order of submission. */
function inOrder(rows: readonly Chosen[], order: readonly number[] | undefined): readonly Chosen[] {
  if (!order) return rows
  const found = new Map(rows.map((row) => [row.seq, row]))
  return order.flatMap((seq) => found.get(seq) ?? [])
}

/** Answers how many it changed: those that still are in one of the states. */
async function apply(
  { db }: Ground,
  statements: Statements,
  chosen: readonly Chosen[],
  change: Change,
  states: ReadonlySet<TaskState> | undefined,
  also: RawBuilder<boolean> | undefined,
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
  if (also) guarded = guarded.where(also)
  return statements.run(guarded.compile())
}

function refused(problem: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', `update: ${problem}`)
}

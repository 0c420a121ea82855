/** Finds, lists and counts tasks of a store and its partitions. */

import { ManyhostError } from '../../core/errors.ts'
import type { Task } from '../model/task.ts'
import type { TaskColumn } from '../model/task-columns.ts'
import { parseJson } from '../text/exact-json.ts'
import { sumCounts, type TaskCountRow } from './counts.ts'
import { type ParsedTaskFilter, parseTaskFilter, type TaskFilter } from './filter.ts'
import { checkLimits, parseSortColumn, readOrder, type TaskOrder } from './order.ts'
import { selectByIds, selectBySeqs, selectCount, selectKeptCounts, selectPage } from './queries.ts'
import { readTaskRow, type StoredTask } from './row.ts'
import { listReadParts, type StoreContext } from './store-context.ts'
import type { StorePart } from './store-part.ts'

export interface ListOptions extends TaskOrder {
  readonly offset?: number
}

/** Tasks of one page. */
export const PAGE_SIZE = 500

/** @throws ManyhostError MANYHOST_UNKNOWN_TASK */
export async function getTask(context: StoreContext, id: string): Promise<Task> {
  const [task] = await findTasks(context, [id])
  if (task) return task
  throw new ManyhostError(
    'MANYHOST_UNKNOWN_TASK',
    `there is no task ${id.slice(0, 100)} in ${context.engine.name}`,
  )
}

/** Looks into partitions only where the store itself does not have all of the tasks. */
export async function findTasks(context: StoreContext, ids: readonly string[]): Promise<Task[]> {
  const found = await findInParts([context], ids)
  return found.length === ids.length ? found : findInParts(await listReadParts(context), ids)
}

async function findInParts(parts: readonly StorePart[], ids: readonly string[]): Promise<Task[]> {
  const found = new Map<string, Task>()
  for (const { engine, db } of parts) {
    const missing = ids.filter((id) => !found.has(id))
    for (let at = 0; at < missing.length; at += PAGE_SIZE) {
      for (const cells of await engine.cells(selectByIds(db, missing.slice(at, at + PAGE_SIZE)))) {
        const { task } = readTaskRow(cells)
        found.set(task.id, task)
      }
    }
  }
  return ids.flatMap((id) => found.get(id) ?? [])
}

/** Reads page by page, and only as far as the caller reads. A task that moves into a partition meanwhile may be missed. */
export async function* listTasks(
  context: StoreContext,
  filter: TaskFilter = {},
  { sort, isDescending = false, limit = Number.POSITIVE_INFINITY, offset = 0 }: ListOptions = {},
): AsyncGenerator<Task, void, undefined> {
  const read = parseTaskFilter(filter)
  checkLimits('list', { limit, offset })
  const column = parseSortColumn('list', sort)
  if (limit === 0 || read.states.size === 0) return
  // Patterns are checked here, so with patterns the number of rows to read is not known before.
  const needed = read.matches ? undefined : limit + offset
  const parts = await listReadParts(context)
  const streams = parts.map((part) =>
    column === undefined
      ? listBySubmission(part, read, isDescending, needed ?? PAGE_SIZE)
      : listSorted(part, read, column, isDescending, needed),
  )
  const direction = isDescending ? -1 : 1
  const compare = (a: ListedTask, b: ListedTask): number =>
    (column === undefined ? 0 : compareValues(a.value, b.value, direction)) ||
    direction * (a.seq - b.seq)
  let skipped = 0
  let given = 0
  let last: number | undefined
  for await (const { seq, task } of mergeSorted(streams, compare)) {
    // A task that is being moved into a partition is in two parts for a moment.
    if (seq === last || (read.matches && !read.matches(task))) continue
    last = seq
    if (skipped++ < offset) continue
    yield task
    if (++given >= limit) return
  }
}

/** Compares as the databases do: no value comes last, text is ordered by its bytes. */
function compareValues(a: unknown, b: unknown, direction: 1 | -1): number {
  if (a === null || b === null) return Number(a === null) - Number(b === null)
  if (typeof a === 'number' && typeof b === 'number') return direction * (a - b)
  return direction * Buffer.compare(Buffer.from(String(a)), Buffer.from(String(b)))
}

interface ListedTask extends StoredTask {
  readonly value: unknown
}

async function* listBySubmission(
  { engine, db }: StorePart,
  read: ParsedTaskFilter,
  isDescending: boolean,
  needed: number,
): AsyncGenerator<ListedTask, void, undefined> {
  let after: number | undefined
  const limit = Math.min(PAGE_SIZE, needed)
  for (;;) {
    const rows = (await engine.cells(selectPage(db, read, { after, limit, isDescending }))).map(
      readTaskRow,
    )
    for (const row of rows) yield { ...row, value: null }
    if (rows.length < limit) return
    after = rows.at(-1)?.seq
  }
}

/** Reads the whole order first, then the tasks page by page. */
async function* listSorted(
  part: StorePart,
  read: ParsedTaskFilter,
  sort: TaskColumn,
  isDescending: boolean,
  needed: number | undefined,
): AsyncGenerator<ListedTask, void, undefined> {
  const order = await readOrder(part, read, sort, isDescending, needed)
  for (let at = 0; at < order.length; at += PAGE_SIZE) {
    const page = order.slice(at, at + PAGE_SIZE)
    const rows = await part.engine.cells(
      selectBySeqs(
        part.db,
        page.map(({ seq }) => seq),
      ),
    )
    const found = new Map(rows.map((cells) => [cells[0], readTaskRow(cells)]))
    for (const { seq, value } of page) {
      const row = found.get(seq)
      if (row) yield { ...row, value }
    }
  }
}

async function* mergeSorted(
  streams: readonly AsyncGenerator<ListedTask, void, undefined>[],
  compare: (a: ListedTask, b: ListedTask) => number,
): AsyncGenerator<ListedTask, void, undefined> {
  try {
    const heads: { stream: AsyncGenerator<ListedTask, void, undefined>; head: ListedTask }[] = []
    for (const stream of streams) {
      const { value, done } = await stream.next()
      if (!done) heads.push({ stream, head: value })
    }
    while (heads.length > 0) {
      let smallest = 0
      for (let i = 1; i < heads.length; i++) {
        if (
          compare(
            (heads[i] as { head: ListedTask }).head,
            (heads[smallest] as { head: ListedTask }).head,
          ) < 0
        )
          smallest = i
      }
      const first = heads[smallest] as (typeof heads)[number]
      yield first.head
      const { value, done } = await first.stream.next()
      if (done) heads.splice(smallest, 1)
      else first.head = value
    }
  } finally {
    for (const stream of streams) await stream.return()
  }
}

/** Uses the kept counts where they can answer, and counts tasks one by one for all other filters. */
export async function countTasks(context: StoreContext, filter: TaskFilter = {}): Promise<number> {
  const read = parseTaskFilter(filter)
  if (read.states.size === 0) return 0
  let total = 0
  if (read.matches) {
    for await (const _ of listTasks(context, filter)) total++
    return total
  }
  const isKept = read.conditions.length === 0 && read.tags.length === 0
  for (const { engine, db } of await listReadParts(context)) {
    if (isKept) total += sumCounts(await engine.all<TaskCountRow>(selectKeptCounts(db, read))).total
    else total += Number((await engine.all<{ n: number }>(selectCount(db, read)))[0]?.n ?? 0)
  }
  return total
}

/**
 * The group that HyperShell gives to a task that names none. Only tasks without a batch count, since a batch has groups of its
 * own. The kept counts nearly always show that there is one group at most; otherwise each query uses an index.
 */
export async function findCurrentGroup({ engine, db, prepared }: StoreContext): Promise<number> {
  const groups = new Set(
    (await engine.all<TaskCountRow>(prepared.counted(['']))).map(({ group }) => group),
  )
  const smallest = Math.min(...groups)
  if (groups.size <= 1) return groups.size === 0 ? 0 : smallest
  const tasks = db.selectFrom('task').select('group').where('batch', '=', '').limit(1)
  const steps = [
    tasks.where('state', '=', 'scheduled').orderBy('schedule_time', 'desc'),
    tasks.where('completion_time', 'is not', null).orderBy('completion_time', 'desc'),
  ]
  for (const step of steps) {
    const [row] = await engine.all<{ group: number }>(step.compile())
    if (row) return row.group
  }
  return smallest
}

/** Each query jumps to the next key in the index, so the cost depends on the number of keys, not of tasks. */
export async function listTagKeys(context: StoreContext): Promise<string[]> {
  const found = new Set<string>()
  for (const { engine, db } of await listReadParts(context)) {
    const nextAfter = (after: string) =>
      db
        .selectFrom('task_tag')
        .select((one) => one.fn.min('key').as('next'))
        .where('key', '>', after)
        .compile()
    for (const key of await readDistinct(engine, nextAfter)) found.add(key)
  }
  return [...found].sort()
}

/** As `listTagKeys`, for the values of one tag. */
export async function listTagValues(context: StoreContext, key: string): Promise<unknown[]> {
  const found = new Set<string>()
  for (const { engine, db } of await listReadParts(context)) {
    const nextAfter = (after: string) =>
      db
        .selectFrom('task_tag')
        .select((one) => one.fn.min('value').as('next'))
        .where('key', '=', key)
        .where('value', '>', after)
        .compile()
    for (const value of await readDistinct(engine, nextAfter)) found.add(value)
  }
  return [...found].sort().map(parseJson)
}

async function readDistinct(
  engine: StorePart['engine'],
  nextAfter: (after: string) => { sql: string; parameters: readonly unknown[] },
): Promise<string[]> {
  const found: string[] = []
  for (let after = ''; ; ) {
    const [row] = await engine.all<{ next: string | null }>(nextAfter(after))
    if (!row || row.next === null) return found
    after = row.next
    found.push(after)
  }
}

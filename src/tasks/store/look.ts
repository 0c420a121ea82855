/** Tasks are found, listed and counted, over the store and its partitions. */
import { parseJson } from '../json.ts'
import type { Task } from '../task.ts'
import { type Counted, summed } from './counts.ts'
import { type TaskFilter, type Wanted, wanted } from './filter.ts'
import type { Ground } from './ground.ts'
import { type Column, checkAmounts, type Order, orderOf, sortColumn } from './order.ts'
import { byIds, bySeqs, counted, keptCounts, page } from './queries.ts'
import { type Kept, kept } from './row.ts'

export interface ListOptions extends Order {
  readonly offset?: number
}

type Place = Pick<Ground, 'engine' | 'db'>

/** Tasks that are read at once. */
export const PAGE = 500

export async function get(places: readonly Place[], ids: readonly string[]): Promise<Task[]> {
  const found = new Map<string, Task>()
  for (const { engine, db } of places) {
    const missing = ids.filter((id) => !found.has(id))
    for (let at = 0; at < missing.length; at += PAGE) {
      for (const cells of await engine.cells(byIds(db, missing.slice(at, at + PAGE)))) {
        const { task } = kept(cells)
        found.set(task.id, task)
      }
    }
  }
  return ids.flatMap((id) => found.get(id) ?? [])
}

/** Reads no more than is asked for, page by page. A task that moves into a partition meanwhile may be missed. */
export async function* list(
  places: readonly Place[],
  filter: TaskFilter,
  { sort, isDescending = false, limit = Number.POSITIVE_INFINITY, offset = 0 }: ListOptions,
): AsyncGenerator<Task, void, undefined> {
  const read = wanted(filter)
  checkAmounts('list', { limit, offset })
  const column = sortColumn('list', sort)
  if (limit === 0 || read.states.size === 0) return
  // With patterns nobody knows how many the database must give.
  const needed = read.matches ? undefined : limit + offset
  const streams = places.map((place) =>
    column === undefined
      ? inOrder(place, read, isDescending, needed ?? PAGE)
      : sortedBy(place, read, column, isDescending, needed),
  )
  const way = isDescending ? -1 : 1
  const compare = (a: Placed, b: Placed): number =>
    (column === undefined ? 0 : ordered(a.value, b.value, way)) || way * (a.seq - b.seq)
  let skipped = 0
  let given = 0
  let last: number | undefined
  for await (const { seq, task } of merged(streams, compare)) {
    // One that is moved just now is in two places for a moment.
    if (seq === last || (read.matches && !read.matches(task))) continue
    last = seq
    if (skipped++ < offset) continue
    yield task
    if (++given >= limit) return
  }
}

/** As the databases order them: nothing last, text by its bytes. */
function ordered(a: unknown, b: unknown, way: 1 | -1): number {
  if (a === null || b === null) return Number(a === null) - Number(b === null)
  if (typeof a === 'number' && typeof b === 'number') return way * (a - b)
  return way * Buffer.compare(Buffer.from(String(a)), Buffer.from(String(b)))
}

interface Placed extends Kept {
  readonly value: unknown
}

async function* inOrder(
  { engine, db }: Place,
  read: Wanted,
  isDescending: boolean,
  needed: number,
): AsyncGenerator<Placed, void, undefined> {
  let after: number | undefined
  const limit = Math.min(PAGE, needed)
  for (;;) {
    const rows = (await engine.cells(page(db, read, { after, limit, isDescending }))).map(kept)
    for (const row of rows) yield { ...row, value: null }
    if (rows.length < limit) return
    after = rows.at(-1)?.seq
  }
}

/** First the order, then the tasks. */
async function* sortedBy(
  place: Place,
  read: Wanted,
  sort: Column,
  isDescending: boolean,
  needed: number | undefined,
): AsyncGenerator<Placed, void, undefined> {
  const order = await orderOf(place, read, sort, isDescending, needed)
  for (let at = 0; at < order.length; at += PAGE) {
    const part = order.slice(at, at + PAGE)
    const rows = await place.engine.cells(
      bySeqs(
        place.db,
        part.map(({ seq }) => seq),
      ),
    )
    const found = new Map(rows.map((cells) => [cells[0], kept(cells)]))
    for (const { seq, value } of part) {
      const row = found.get(seq)
      if (row) yield { ...row, value }
    }
  }
}

async function* merged(
  streams: readonly AsyncGenerator<Placed, void, undefined>[],
  compare: (a: Placed, b: Placed) => number,
): AsyncGenerator<Placed, void, undefined> {
  try {
    const heads: { stream: AsyncGenerator<Placed, void, undefined>; head: Placed }[] = []
    for (const stream of streams) {
      const { value, done } = await stream.next()
      if (!done) heads.push({ stream, head: value })
    }
    while (heads.length > 0) {
      let least = 0
      for (let i = 1; i < heads.length; i++) {
        if (
          compare((heads[i] as { head: Placed }).head, (heads[least] as { head: Placed }).head) < 0
        )
          least = i
      }
      const first = heads[least] as (typeof heads)[number]
      yield first.head
      const { value, done } = await first.stream.next()
      if (done) heads.splice(least, 1)
      else first.head = value
    }
  } finally {
    for (const stream of streams) await stream.return()
  }
}

/** From the kept counts where these know; one by one where the filter says more. */
export async function count(places: readonly Place[], filter: TaskFilter): Promise<number> {
  const read = wanted(filter)
  if (read.states.size === 0) return 0
  let total = 0
  if (read.matches) {
    for await (const _ of list(places, filter, {})) total++
    return total
  }
  const isKept = read.conditions.length === 0 && read.tags.length === 0
  for (const { engine, db } of places) {
    if (isKept) total += summed(await engine.all<Counted>(keptCounts(db, read))).total
    else total += Number((await engine.all<{ n: number }>(counted(db, read)))[0]?.n ?? 0)
  }
  return total
}

/**
 * The ancestor's group of a task that names none, among tasks of no batch: a batch has groups of its own. Nearly always there
 * is one group at most, as the counts say; each other step is led by an index.
 */
export async function currentGroup({ engine, db, hot }: Ground): Promise<number> {
  const groups = new Set((await engine.all<Counted>(hot.counted(['']))).map(({ group }) => group))
  const least = Math.min(...groups)
  if (groups.size <= 1) return groups.size === 0 ? 0 : least
  const tasks = db.selectFrom('task').select('group').where('batch', '=', '').limit(1)
  const steps = [
    tasks.where('state', '=', 'scheduled').orderBy('schedule_time', 'desc'),
    tasks.where('completion_time', 'is not', null).orderBy('completion_time', 'desc'),
  ]
  for (const step of steps) {
    const [row] = await engine.all<{ group: number }>(step.compile())
    if (row) return row.group
  }
  return least
}

/** Keys of tags that are in use, in order. Found by leaps: what it costs is the number of keys, not of tasks. */
export async function tagKeys(places: readonly Place[]): Promise<string[]> {
  const found = new Set<string>()
  for (const { engine, db } of places) {
    const leap = (after: string) =>
      db
        .selectFrom('task_tag')
        .select((one) => one.fn.min('key').as('next'))
        .where('key', '>', after)
        .compile()
    for (const key of await leaps(engine, leap)) found.add(key)
  }
  return [...found].sort()
}

/** Values of a tag that are in use, in the order of their JSON. */
export async function tagValues(places: readonly Place[], key: string): Promise<unknown[]> {
  const found = new Set<string>()
  for (const { engine, db } of places) {
    const leap = (after: string) =>
      db
        .selectFrom('task_tag')
        .select((one) => one.fn.min('value').as('next'))
        .where('key', '=', key)
        .where('value', '>', after)
        .compile()
    for (const value of await leaps(engine, leap)) found.add(value)
  }
  return [...found].sort().map(parseJson)
}

async function leaps(
  engine: Place['engine'],
  leap: (after: string) => { sql: string; parameters: readonly unknown[] },
): Promise<string[]> {
  const found: string[] = []
  for (let after = ''; ; ) {
    const [row] = await engine.all<{ next: string | null }>(leap(after))
    if (!row || row.next === null) return found
    after = row.next
    found.push(after)
  }
}

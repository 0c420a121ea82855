/**
 * The statements that every task passes through, written by hand and once per store. All rows of a statement come as one JSON
 * text, so a hundred tasks cost one call into the database, on either engine.
 */

import type { SqlDialect } from '../../store/dialect.ts'
import { createQuery, type Query, type RowCells } from '../../store/engine.ts'
import type { TaskKind } from '../model/task.ts'
import type { TaskColumn } from '../model/task-columns.ts'
import { type CountTable, sqlTypeOf, TASK_COLUMNS_SQL, TASK_KIND_SQL } from './tables.ts'

/** The columns of a new row. All other columns get their values later. */
export const INSERTED_COLUMNS = [
  'id',
  'group',
  'args',
  'submit_id',
  'submit_time',
  'submit_host',
  'cores',
  'memory',
  'timeout',
  'server_id',
  'server_host',
  'schedule_time',
  'attempt',
  'retried',
  'previous_id',
  'tag',
  'request',
  'fence',
  'command',
  'batch',
  'cwd',
  'template',
  'shell',
  'env',
] as const satisfies readonly TaskColumn[]

/** The columns of an outcome, in the order of its cells. */
const OUTCOME_COLUMNS = [
  'id',
  'fence',
  'exit_status',
  'command',
  'client_id',
  'client_host',
  'start_time',
  'completion_time',
  'cores_max',
  'memory_max',
  'outpath',
  'errpath',
  'csvpath',
  'attempts',
  'captured',
] as const satisfies readonly TaskColumn[]

/** Columns that keep their value where an outcome has none for them. */
const KEPT_COLUMNS: ReadonlySet<string> = new Set([
  'client_id',
  'client_host',
  'command',
  'start_time',
])

type CountKey = Pick<CountTable, 'batch' | 'group' | 'attempt'>

export type PreparedStatements = ReturnType<typeof prepareStatements>

export function prepareStatements(dialect: SqlDialect) {
  const { jsonElements: each, elementText, skipLocked, lockInOrder, forShare } = dialect
  const scheduled = isScheduledSql(dialect)
  const isAmong = `IN (SELECT ${elementText} FROM ${each})`
  const text = dialect.numberParameters

  const insert = cacheByColumns((hasValue) => text(buildInsert(each, hasValue)))
  const fresh = text(`SELECT ${TASK_COLUMNS_SQL} FROM task
    WHERE batch = ? AND "group" = ? AND ${TASK_KIND_SQL} = ? AND state = 'new' ORDER BY seq LIMIT ?${skipLocked}`)
  const failed = text(`SELECT ${TASK_COLUMNS_SQL} FROM task
    WHERE batch = ? AND "group" = ? AND attempt = ? AND ${TASK_KIND_SQL} = ? AND state = 'failed'
    ORDER BY completion_time, seq LIMIT ?${skipLocked}`)
  const schedule =
    text(`UPDATE task SET schedule_time = ?, server_id = ?, server_host = ?, fence = fence + 1
    WHERE seq IN (SELECT CAST(e.value AS BIGINT) FROM ${each}) AND state = 'new'`)
  const link = text(`UPDATE task SET retried = 1, next_id = o.next_id
    FROM (SELECT ${readCell(0, 'BIGINT')} AS seq, ${readCell(1, 'TEXT')} AS next_id FROM ${each}) AS o
    WHERE task.seq = o.seq`)
  const complete = cacheByColumns((hasValue) => text(buildCompletion(dialect, hasValue)))
  const confirm = text(`UPDATE task SET client_id = ?, client_host = ?
    FROM (SELECT ${readCell(0, 'TEXT')} AS id, ${readCell(1, 'BIGINT')} AS fence FROM ${each}) AS o
    WHERE task.id = o.id AND task.fence = o.fence AND ${scheduled}`)
  const standing = text(`SELECT task.id AS id, task.fence AS fence, task.state AS state FROM task
    WHERE id ${isAmong}${lockInOrder}`)
  const alive = text(`SELECT host FROM server WHERE id = ? AND ended_at IS NULL${forShare}`)

  const sums = (where: string): string =>
    `SELECT batch, "group", attempt, state, CAST(sum(n) AS BIGINT) AS n FROM task_count ${where}
    GROUP BY batch, "group", attempt, state HAVING sum(n) <> 0 ORDER BY "group", attempt, batch`
  const countedAll = createQuery(sums(''))
  const countedOf = text(sums(`WHERE batch ${isAmong}`))

  return {
    /** The counts of some batches, or of all. */
    counted: (batches?: readonly string[]): Query =>
      batches ? createQuery(countedOf, JSON.stringify(batches)) : countedAll,
    insert: (rows: readonly RowCells[]): Query => createQuery(insert(rows), JSON.stringify(rows)),
    fresh: (batch: string, group: number, kind: TaskKind, limit: number): Query =>
      createQuery(fresh, batch, group, kind, limit),
    failed: ({ batch, group, attempt }: CountKey, kind: TaskKind, limit: number): Query =>
      createQuery(failed, batch, group, attempt, kind, limit),
    schedule: (at: number, server: string, host: string, seqs: readonly number[]): Query =>
      createQuery(schedule, at, server, host, JSON.stringify(seqs)),
    link: (rows: readonly (readonly [seq: number, next: string])[]): Query =>
      createQuery(link, JSON.stringify(rows)),
    complete: (rows: readonly RowCells[]): Query =>
      createQuery(complete(rows), JSON.stringify(rows)),
    confirm: (client: string, host: string, claims: readonly RowCells[]): Query =>
      createQuery(confirm, client, host, JSON.stringify(claims)),
    standing: (ids: readonly string[]): Query => createQuery(standing, JSON.stringify(ids)),
    alive: (server: string): Query => createQuery(alive, server),
  }
}

function readCell(index: number, type: string): string {
  return `CAST(e.value ->> ${index} AS ${type})`
}

/** SQLite must find these tasks by their ids, not by going through all scheduled tasks. */
function isScheduledSql({ noIndex }: SqlDialect): string {
  return `${noIndex}task.state = 'scheduled'`
}

type HasValue = (index: number) => boolean

/**
 * Chooses a statement by the columns that any of the rows has a value for. Reading a cell from the JSON costs half a
 * microsecond, and most rows have few values.
 */
function cacheByColumns(
  make: (hasValue: HasValue) => string,
): (rows: readonly RowCells[]) => string {
  const known = new Map<number, string>()
  return (rows) => {
    let filled = 0
    for (const cells of rows) {
      for (const [index, cell] of cells.entries()) if (cell !== null) filled |= 1 << index
    }
    let made = known.get(filled)
    if (made === undefined) {
      made = make((index) => (filled & (1 << index)) !== 0)
      known.set(filled, made)
    }
    return made
  }
}

function buildInsert(each: string, hasValue: HasValue): string {
  const columns = INSERTED_COLUMNS.flatMap((name, index) =>
    hasValue(index) ? [{ name, index }] : [],
  )
  return `INSERT INTO task (${columns.map(({ name }) => `"${name}"`).join(', ')})
    SELECT ${columns.map(({ name, index }) => readCell(index, sqlTypeOf(name))).join(', ')}
    FROM ${each} ORDER BY e.key`
}

function buildCompletion(dialect: SqlDialect, hasValue: HasValue): string {
  const always = ['id', 'fence', 'exit_status', 'start_time', 'completion_time']
  const columns = OUTCOME_COLUMNS.flatMap((name, index) =>
    hasValue(index) || always.includes(name) ? [{ name, index }] : [],
  )
  const given = columns.map(({ name, index }) => `${readCell(index, sqlTypeOf(name))} AS "${name}"`)
  const sets = columns
    .slice(2)
    .map(({ name }) =>
      KEPT_COLUMNS.has(name)
        ? `"${name}" = COALESCE(o."${name}", task."${name}")`
        : `"${name}" = o."${name}"`,
    )
  const start = 'COALESCE(o.start_time, task.start_time)'
  return `WITH o AS MATERIALIZED (SELECT ${given.join(', ')} FROM ${dialect.jsonElements})
    UPDATE task SET ${sets.join(', ')},
      waited = ${start} - task.submit_time, duration = o.completion_time - ${start}
    FROM o
    WHERE task.id = o.id AND task.fence = o.fence AND ${isScheduledSql(dialect)}`
}

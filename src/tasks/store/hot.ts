/**
 * The statements of the way in and the way out, written once for each engine. A batch comes as one JSON text: one call
 * into the database for a hundred tasks, whatever the engine.
 */

import type { TaskKind } from '../task.ts'
import { type Engine, type Query, query, written } from './engine.ts'
import type { Cells } from './row.ts'
import { COLUMNS, type CountTable, KINDS, TASK_KIND } from './tables.ts'

const TYPES = { text: 'TEXT', whole: 'BIGINT', real: 'DOUBLE PRECISION' } as const

const NAMES = COLUMNS.map((name) => `"${name}"`)

/** What a new row has; all else comes later. */
export const GIVEN = [
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
] as const satisfies readonly (typeof COLUMNS)[number][]

/** What a completion says, in the order of its cells. */
const OUTCOME = [
  ['id', 'TEXT'],
  ['fence', 'BIGINT'],
  ['exit_status', 'BIGINT'],
  ['command', 'TEXT'],
  ['client_id', 'TEXT'],
  ['client_host', 'TEXT'],
  ['start_time', 'BIGINT'],
  ['completion_time', 'BIGINT'],
  ['cores_max', 'DOUBLE PRECISION'],
  ['memory_max', 'DOUBLE PRECISION'],
  ['outpath', 'TEXT'],
  ['errpath', 'TEXT'],
  ['csvpath', 'TEXT'],
  ['attempts', 'BIGINT'],
  ['captured', 'BIGINT'],
] as const

/** What an outcome leaves as it was when it does not say it. */
const KEPT: ReadonlySet<string> = new Set(['client_id', 'client_host', 'command', 'start_time'])

type Level = Pick<CountTable, 'batch' | 'group' | 'attempt'>

export type Hot = ReturnType<typeof hotStatements>

export function hotStatements(kind: Engine['kind']) {
  const each =
    kind === 'sqlite'
      ? 'json_each(?) AS e'
      : 'jsonb_array_elements(CAST(? AS jsonb)) WITH ORDINALITY AS e(value, key)'
  const locked = kind === 'sqlite' ? '' : ' FOR UPDATE SKIP LOCKED'
  const scheduled = scheduledOf(kind)
  const isAmong = `IN (SELECT ${kind === 'sqlite' ? 'e.value' : "e.value #>> '{}'"} FROM ${each})`
  const text = (sql: string): string => written(kind, sql)

  const insert = bySaid((says) => text(insertion(each, says)))
  const fresh = text(`SELECT ${NAMES.join(', ')} FROM task
    WHERE batch = ? AND "group" = ? AND ${TASK_KIND} = ? AND state = 'new' ORDER BY seq LIMIT ?${locked}`)
  const failed = text(`SELECT ${NAMES.join(', ')} FROM task
    WHERE batch = ? AND "group" = ? AND attempt = ? AND ${TASK_KIND} = ? AND state = 'failed'
    ORDER BY completion_time, seq LIMIT ?${locked}`)
  const schedule =
    text(`UPDATE task SET schedule_time = ?, server_id = ?, server_host = ?, fence = fence + 1
    WHERE seq IN (SELECT CAST(e.value AS BIGINT) FROM ${each}) AND state = 'new'`)
  const link = text(`UPDATE task SET retried = 1, next_id = o.next_id
    FROM (SELECT ${cell(0, 'BIGINT')} AS seq, ${cell(1, 'TEXT')} AS next_id FROM ${each}) AS o
    WHERE task.seq = o.seq`)
  const complete = bySaid((says) => text(completion(kind, each, says)))
  const confirm = text(`UPDATE task SET client_id = ?, client_host = ?
    FROM (SELECT ${cell(0, 'TEXT')} AS id, ${cell(1, 'BIGINT')} AS fence FROM ${each}) AS o
    WHERE task.id = o.id AND task.fence = o.fence AND ${scheduled}`)
  const standing = text(`SELECT task.id AS id, task.fence AS fence, task.state AS state FROM task
    WHERE id ${isAmong}${kind === 'sqlite' ? '' : ' ORDER BY seq FOR UPDATE'}`)
  const alive = text(
    `SELECT host FROM server WHERE id = ? AND ended_at IS NULL${kind === 'sqlite' ? '' : ' FOR SHARE'}`,
  )

  const sums = (where: string): string =>
    `SELECT batch, "group", attempt, state, CAST(sum(n) AS BIGINT) AS n FROM task_count ${where}
    GROUP BY batch, "group", attempt, state HAVING sum(n) <> 0 ORDER BY "group", attempt, batch`
  const countedAll = query(sums(''))
  const countedOf = text(sums(`WHERE batch ${isAmong}`))

  return {
    /** Of some batches; of all without. */
    counted: (batches?: readonly string[]): Query =>
      batches ? query(countedOf, JSON.stringify(batches)) : countedAll,
    insert: (rows: readonly Cells[]): Query => query(insert(rows), JSON.stringify(rows)),
    fresh: (batch: string, group: number, kind: TaskKind, limit: number): Query =>
      query(fresh, batch, group, kind, limit),
    failed: ({ batch, group, attempt }: Level, kind: TaskKind, limit: number): Query =>
      query(failed, batch, group, attempt, kind, limit),
    schedule: (at: number, server: string, host: string, seqs: readonly number[]): Query =>
      query(schedule, at, server, host, JSON.stringify(seqs)),
    link: (rows: readonly (readonly [seq: number, next: string])[]): Query =>
      query(link, JSON.stringify(rows)),
    complete: (rows: readonly Cells[]): Query => query(complete(rows), JSON.stringify(rows)),
    confirm: (client: string, host: string, claims: readonly Cells[]): Query =>
      query(confirm, client, host, JSON.stringify(claims)),
    standing: (ids: readonly string[]): Query => query(standing, JSON.stringify(ids)),
    alive: (server: string): Query => query(alive, server),
  }
}

function cell(index: number, type: string): string {
  return `CAST(e.value ->> ${index} AS ${type})`
}

/** SQLite is kept from going through all scheduled tasks: the id leads. */
function scheduledOf(kind: Engine['kind']): string {
  return `${kind === 'sqlite' ? '+' : ''}task.state = 'scheduled'`
}

type Says = (index: number) => boolean

/**
 * The statement for a batch, by what its rows say: a cell that is null in all of them is not read. Each costs half a
 * microsecond, and most rows say little.
 */
function bySaid(make: (says: Says) => string): (rows: readonly Cells[]) => string {
  const known = new Map<number, string>()
  return (rows) => {
    let said = 0
    for (const cells of rows) {
      for (const [index, cell] of cells.entries()) if (cell !== null) said |= 1 << index
    }
    let made = known.get(said)
    if (made === undefined) {
      made = make((index) => (said & (1 << index)) !== 0)
      known.set(said, made)
    }
    return made
  }
}

function insertion(each: string, says: Says): string {
  const columns = GIVEN.flatMap((name, index) => (says(index) ? [{ name, index }] : []))
  return `INSERT INTO task (${columns.map(({ name }) => `"${name}"`).join(', ')})
    SELECT ${columns.map(({ name, index }) => cell(index, TYPES[KINDS[name]])).join(', ')}
    FROM ${each} ORDER BY e.key`
}

function completion(kind: Engine['kind'], each: string, says: Says): string {
  const always = ['id', 'fence', 'exit_status', 'start_time', 'completion_time']
  const columns = OUTCOME.flatMap(([name, type], index) =>
    says(index) || always.includes(name) ? [{ name, type, index }] : [],
  )
  const given = columns.map(({ name, type, index }) => `${cell(index, type)} AS "${name}"`)
  const sets = columns
    .slice(2)
    .map(({ name }) =>
      KEPT.has(name)
        ? `"${name}" = COALESCE(o."${name}", task."${name}")`
        : `"${name}" = o."${name}"`,
    )
  const start = 'COALESCE(o.start_time, task.start_time)'
  return `WITH o AS MATERIALIZED (SELECT ${given.join(', ')} FROM ${each})
    UPDATE task SET ${sets.join(', ')},
      waited = ${start} - task.submit_time, duration = o.completion_time - ${start}
    FROM o
    WHERE task.id = o.id AND task.fence = o.fence AND ${scheduledOf(kind)}`
}

/**
 * Batches: tasks that were added together, and that one run works on. A batch is alive while a server that works on it is
 * alive. What a dead batch has left can be found, and can be taken over by folder.
 */

import { createQuery, type Query, type Statements } from '../../store/engine.ts'
import type { Task } from '../model/task.ts'
import type { TaskCountRow } from './counts.ts'
import { readTaskRows } from './row.ts'
import type { StoreContext } from './store-context.ts'
import { TASK_COLUMNS_SQL } from './tables.ts'

/** Tasks of one transaction: only one column of them changes. */
const ROWS_PER_TRANSACTION = 5_000
/** Cancelled tasks of one transaction: they are read whole. */
const CANCELLED_PER_TRANSACTION = 500

const IS_OF_NO_LIVING_BATCH =
  "batch <> ? AND batch NOT IN (SELECT batch FROM server WHERE ended_at IS NULL AND batch <> '')"

/** A task of an older version, or of another machine, has no folder. It counts for every folder. */
const IS_OF_FOLDER = '(cwd = ? OR cwd IS NULL)'

export interface AdoptOptions {
  /** The batch that the tasks belong to from now on. */
  readonly batch: string
  /** Tasks of this folder are taken over. */
  readonly cwd: string
  /** How often a task is tried in all. */
  readonly attempts: number
}

/**
 * Takes over the waiting tasks of a folder that no live run works on. With them come failures of the same batches, which may
 * hold back later groups, and tasks that a server still holds: they can be claimed after that server was found dead.
 * Returns how many can be claimed now.
 */
export async function adoptTasks(
  context: StoreContext,
  { batch, cwd, attempts }: AdoptOptions,
): Promise<number> {
  const { engine, notifyAdded } = context
  const ask = (sql: string, ...parameters: unknown[]): Query =>
    createQuery(engine.dialect.numberParameters(sql), ...parameters)
  const where = `${IS_OF_FOLDER} AND ${IS_OF_NO_LIVING_BATCH}`
  const left = await engine.all<{ batch: string }>(
    ask(
      `SELECT DISTINCT batch FROM task WHERE state = 'new' AND ${where}
       UNION SELECT DISTINCT batch FROM task WHERE state = 'scheduled' AND ${where}
       UNION SELECT DISTINCT batch FROM task WHERE state = 'failed' AND attempt < ? AND ${where}`,
      cwd,
      batch,
      cwd,
      batch,
      attempts,
      cwd,
      batch,
    ),
  )
  const move = (state: string): string =>
    `UPDATE task SET batch = ? WHERE state = '${state}' AND seq IN (SELECT seq FROM task
      WHERE batch = ? AND state = '${state}' AND ${IS_OF_FOLDER} LIMIT ${ROWS_PER_TRANSACTION}${engine.dialect.skipLocked})`
  let count = 0
  for (const { batch: from } of left) {
    for (const state of ['failed', 'scheduled', 'new']) {
      for (let moved = ROWS_PER_TRANSACTION; moved === ROWS_PER_TRANSACTION; ) {
        moved = await engine.run(ask(move(state), batch, from, cwd))
        if (state === 'new') count += moved
      }
    }
  }
  if (count > 0) notifyAdded()
  return count
}

/** Waiting tasks of other batches, of one folder. */
export interface UnfinishedTasks {
  /** Undefined: no folder is known. */
  readonly cwd: string | undefined
  /** Whether they have no batch: any server of the store may run them. */
  readonly isSubmitted: boolean
  /** Whether the server of these tasks is alive, or its lease has not expired. */
  readonly isAlive: boolean
  readonly tasks: number
}

/** Finds what other batches have to do, the largest first. Read from the counts, so the number of tasks does not matter. */
export async function findOtherBatches(
  { engine, prepared }: StoreContext,
  batch: string,
): Promise<UnfinishedTasks[]> {
  const alive = new Set(
    (
      await engine.all<{ batch: string }>(
        createQuery("SELECT batch FROM server WHERE ended_at IS NULL AND batch <> ''"),
      )
    ).map((one) => one.batch),
  )
  const waiting = new Map<string, number>()
  for (const one of await engine.all<TaskCountRow>(prepared.counted())) {
    const isOpen = one.state === 'new' || (one.state === 'scheduled' && alive.has(one.batch))
    if (!isOpen || one.batch === batch) continue
    waiting.set(one.batch, (waiting.get(one.batch) ?? 0) + one.n)
  }
  const first = engine.dialect.numberParameters(
    "SELECT cwd FROM task WHERE batch = ? AND state IN ('new', 'scheduled') LIMIT 1",
  )
  const folders = new Map<string, { cwd: string | undefined; isAlive: boolean; tasks: number }>()
  const left: UnfinishedTasks[] = []
  for (const [name, tasks] of waiting) {
    if (name === '') {
      left.push({ cwd: undefined, isSubmitted: true, isAlive: false, tasks })
      continue
    }
    // All tasks of a batch have one folder, except those that were taken over without one.
    const [row] = await engine.all<{ cwd: string | null }>(createQuery(first, name))
    const cwd = row?.cwd ?? undefined
    const isAlive = alive.has(name)
    const key = `${isAlive} ${cwd ?? ''}`
    const known = folders.get(key)
    if (known) known.tasks += tasks
    else folders.set(key, { cwd, isAlive, tasks })
  }
  for (const one of folders.values()) left.push({ ...one, isSubmitted: false })
  return left.sort((a, b) => b.tasks - a.tasks)
}

export interface CancelledQuery {
  readonly server: string
  readonly host: string
  /** Batches, each with the time from which on cancelled tasks are looked for, in ms since 1970. */
  readonly batches: readonly { readonly batch: string; readonly since: number }[]
}

/**
 * Takes tasks that were cancelled before any server claimed them. Each is given to one server, once. Returns some of them: to
 * be called again until there are none.
 */
export async function takeCancelled(
  { engine }: StoreContext,
  { server, host, batches }: CancelledQuery,
): Promise<Task[]> {
  const { numberParameters, skipLocked } = engine.dialect
  const found = (columns: string, end: string): string =>
    numberParameters(
      `SELECT ${columns} FROM task WHERE batch = ? AND state = 'cancelled' AND server_id IS NULL
       AND completion_time >= ? ORDER BY completion_time, seq LIMIT ${end}`,
    )
  const noted: Task[] = []
  for (const { batch, since } of batches) {
    // The first look takes no lock: nearly always there is none.
    const some = await engine.all(createQuery(found('seq', '1'), batch, since))
    if (some.length === 0) continue
    const tasks = await engine.transaction(async (statements: Statements) => {
      const rows = await statements.cells(
        createQuery(
          found(TASK_COLUMNS_SQL, `${CANCELLED_PER_TRANSACTION}${skipLocked}`),
          batch,
          since,
        ),
      )
      const seqs = rows.map(([seq]) => seq as number)
      if (seqs.length === 0) return []
      const mark = `UPDATE task SET server_id = ?, server_host = ? WHERE seq IN (${seqs.join(', ')})`
      await statements.run(createQuery(numberParameters(mark), server, host))
      return readTaskRows(rows)
    })
    for (const task of tasks) noted.push({ ...task, serverId: server, serverHost: host })
  }
  return noted
}

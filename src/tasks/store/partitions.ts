/**
 * Finished tasks can be moved into partitions. A partition is a store of the same form beside this one: on SQLite a file
 * `tasks.part1.db` beside `tasks.db`, on PostgreSQL a schema `manyhost_part1` beside `manyhost`. Partitions are read together
 * with the store.
 */
import { existsSync } from 'node:fs'
import { sql } from 'kysely'
import {
  createQuery,
  createQueryBuilder,
  type DatabaseEngine,
  type Statements,
} from '../../store/engine.ts'
import type { SqliteEngine } from '../../store/sqlite-engine.ts'
import { TASK_COLUMNS } from '../model/task-columns.ts'
import { tagsFromJson, tagsToJson } from '../text/tags.ts'
import { migrateStore } from './schema.ts'
import { openSqliteTasks } from './sqlite-tasks.ts'
import type { StorePart } from './store-part.ts'
import { type StoreTables, TASK_COLUMNS_SQL } from './tables.ts'

const ROWS_PER_TRANSACTION = 2_000
/** States that never change again. Failures stay in the store: they may be tried again, and may hold back a group. */
const FINISHED_STATES = ['succeeded', 'retried', 'cancelled'] as const

/** The partitions of one store. Each is opened when it is first read. */
export class Partitions {
  readonly #store: StorePart
  readonly #schema: string
  readonly #opened = new Map<number, StorePart>()

  constructor(store: StorePart, schema: string) {
    this.#store = store
    this.#schema = schema
  }

  /** Opens all partitions that exist, oldest first. */
  async openAll(): Promise<StorePart[]> {
    const numbers = await this.#listNumbers()
    const parts: StorePart[] = []
    for (const number of numbers) {
      let part = this.#opened.get(number)
      if (!part) {
        part = await this.#openPart(number)
        this.#opened.set(number, part)
      }
      parts.push(part)
    }
    return parts
  }

  /** Moves finished tasks into a new partition. A rotation that was cut short goes on with its partition instead. */
  async rotate(): Promise<{ moved: number; partition: number }> {
    const { engine } = this.#store
    const [row] = await engine.all<{ value: number }>(
      createQuery("SELECT value FROM meta WHERE name = 'rotating'"),
    )
    const partition = row?.value || ((await this.#listNumbers()).at(-1) ?? 0) + 1
    await engine.transaction((statements) => setMeta(statements, 'rotating', partition))
    const moved =
      engine.kind === 'sqlite'
        ? await this.#moveIntoFile(partition)
        : await this.#moveIntoSchema(partition)
    await engine.transaction(async (statements) => {
      await setMeta(statements, 'partitions', partition)
      await setMeta(statements, 'rotating', 0)
    })
    return { moved, partition }
  }

  async close(): Promise<void> {
    for (const { engine } of this.#opened.values()) {
      if (engine !== this.#store.engine) await engine.close()
    }
    this.#opened.clear()
  }

  async #openPart(number: number): Promise<StorePart> {
    const { engine, db } = this.#store
    if (engine.kind === 'sqlite') return { engine: await openPartitionFile(this.#path(number)), db }
    const schema = this.#schemaOf(number)
    await migrateStore(engine, schema)
    return { engine, db: createQueryBuilder<StoreTables>('postgres', schema) }
  }

  /** Tasks are written to the partition before they are removed from the store, so an interruption loses none. */
  async #moveIntoFile(partition: number): Promise<number> {
    const { db, engine } = this.#store
    const target = await openPartitionFile(this.#path(partition))
    let moved = 0
    try {
      for (;;) {
        const rows = await this.#readFinished(engine)
        if (rows.length === 0) return moved
        await target.transaction(async (statements) => {
          for (const cells of rows) {
            const tag = tagsToJson({ ...tagsFromJson(cells[TAG_INDEX] as string), part: partition })
            await statements.run(
              createQuery(
                INSERT,
                ...cells.map((cell, index) => (index === TAG_INDEX ? tag : cell)),
              ),
            )
          }
        })
        const seqs = rows.map(([seq]) => seq as number)
        moved += await engine.run(db.deleteFrom('task').where('seq', 'in', seqs).compile())
      }
    } finally {
      if (this.#opened.get(partition)?.engine !== target) await target.close()
    }
  }

  async #moveIntoSchema(partition: number): Promise<number> {
    const { engine } = this.#store
    const schema = this.#schemaOf(partition)
    await migrateStore(engine, schema)
    let moved = 0
    for (;;) {
      const rows = await engine.transaction((statements) =>
        statements.run(
          createQuery(`WITH gone AS (DELETE FROM task WHERE seq IN (SELECT seq FROM task
              WHERE state IN (${FINISHED_STATES.map((state) => `'${state}'`).join(', ')}) ORDER BY seq LIMIT ${ROWS_PER_TRANSACTION})
            RETURNING ${TASK_COLUMNS_SQL})
            INSERT INTO "${schema}".task (${TASK_COLUMNS_SQL}) SELECT ${TASK_COLUMNS.map((name) =>
              name === 'tag'
                ? `(SELECT '{' || string_agg(to_json(key)::text || ':' || value::text, ',' ORDER BY at)
                    FROM (SELECT key, value, at FROM json_each(tag::json) WITH ORDINALITY AS kept(key, value, at)
                      WHERE key <> 'part' UNION ALL SELECT 'part', '${partition}'::json, NULL) AS tags) || '}'`
                : `"${name}"`,
            ).join(', ')} FROM gone`),
        ),
      )
      if (rows === 0) return moved
      moved += rows
    }
  }

  async #readFinished(engine: DatabaseEngine): Promise<(readonly unknown[])[]> {
    const rows: (readonly unknown[])[] = []
    for (const state of FINISHED_STATES) {
      const more = this.#store.db
        .selectFrom('task')
        .select(TASK_COLUMNS)
        .where('state', '=', state)
        .orderBy('seq')
        .limit(sql.lit(ROWS_PER_TRANSACTION))
      if (rows.length < ROWS_PER_TRANSACTION) rows.push(...(await engine.cells(more.compile())))
    }
    return rows.slice(0, ROWS_PER_TRANSACTION)
  }

  async #listNumbers(): Promise<number[]> {
    const { engine } = this.#store
    const [row] = await engine.all<{ value: number }>(
      createQuery("SELECT max(value) AS value FROM meta WHERE name IN ('partitions', 'rotating')"),
    )
    const all = Array.from({ length: Number(row?.value ?? 0) }, (_, index) => index + 1)
    if (engine.kind === 'sqlite') return all.filter((number) => existsSync(this.#path(number)))
    if (all.length === 0) return []
    const names = await engine.all<{ nspname: string }>(
      createQuery('SELECT nspname FROM pg_namespace'),
    )
    const known = new Set(names.map(({ nspname }) => nspname))
    return all.filter((number) => known.has(this.#schemaOf(number)))
  }

  #path(partition: number): string {
    return partitionPath(this.#store.engine.name, partition)
  }

  #schemaOf(partition: number): string {
    return `${this.#schema}_part${partition}`
  }
}

const TAG_INDEX = TASK_COLUMNS.indexOf('tag')
const INSERT = `INSERT OR IGNORE INTO task (${TASK_COLUMNS_SQL}) VALUES (${TASK_COLUMNS.map(() => '?').join(', ')})`

export function partitionPath(path: string, partition: number): string {
  return path.replace(/(\.[^./]+)?$/, `.part${partition}$1`)
}

function openPartitionFile(path: string): Promise<SqliteEngine> {
  return openSqliteTasks(path, { busyTimeout: 5_000, synchronous: 'normal', create: true })
}

async function setMeta(statements: Statements, name: string, value: number): Promise<void> {
  await statements.run(
    createQuery(
      `INSERT INTO meta VALUES ('${name}', ${value}) ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
    ),
  )
}

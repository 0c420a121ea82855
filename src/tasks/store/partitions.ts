/**
 * What is over can be moved out of the way: into partitions, which are stores of the same form beside this one (on SQLite
 * a file `tasks.part1.db` beside `tasks.db`, on PostgreSQL a schema `manyhost_part1` beside `manyhost`), and are read
 * together with it.
 */
import { existsSync } from 'node:fs'
import { sql } from 'kysely'
import { tagsFromJson, tagsToJson } from '../tags.ts'
import { builder, type Engine, query, type Statements } from './engine.ts'
import type { Ground } from './ground.ts'
import { migrate } from './schema.ts'
import { SqliteEngine } from './sqlite.ts'
import { COLUMNS } from './tables.ts'

export type Place = Pick<Ground, 'engine' | 'db'>

const BATCH = 2_000
/** What is over for good; failures stay, for they may be tried again, and may hold back a group. */
const OVER = ['succeeded', 'retried', 'cancelled'] as const
const NAMES = COLUMNS.map((name) => `"${name}"`).join(', ')

/** Those of one store, opened when they are first read. */
export class Partitions {
  readonly #ground: Ground
  readonly #schema: string
  readonly #open = new Map<number, Place>()

  constructor(ground: Ground, schema: string) {
    this.#ground = ground
    this.#schema = schema
  }

  /** All there are, oldest first. */
  async places(): Promise<Place[]> {
    const numbers = await this.#numbers()
    const places: Place[] = []
    for (const number of numbers) {
      let place = this.#open.get(number)
      if (!place) {
        place = await this.#place(number)
        this.#open.set(number, place)
      }
      places.push(place)
    }
    return places
  }

  /** Paths of the files; for a backup. */
  async paths(): Promise<string[]> {
    return (await this.#numbers()).map((number) => this.#path(number))
  }

  /** Moves what is over into a new partition. A move that was cut short is ended first. */
  async rotate(): Promise<{ moved: number; partition: number }> {
    const { engine } = this.#ground
    const [row] = await engine.all<{ value: number }>(
      query("SELECT value FROM meta WHERE name = 'rotating'"),
    )
    const partition = row?.value || ((await this.#numbers()).at(-1) ?? 0) + 1
    await engine.transaction((statements) => setMeta(statements, 'rotating', partition))
    const moved =
      engine.kind === 'sqlite' ? await this.#intoFile(partition) : await this.#intoSchema(partition)
    await engine.transaction(async (statements) => {
      await setMeta(statements, 'partitions', partition)
      await setMeta(statements, 'rotating', 0)
    })
    return { moved, partition }
  }

  async close(): Promise<void> {
    for (const { engine } of this.#open.values()) {
      if (engine !== this.#ground.engine) await engine.close()
    }
    this.#open.clear()
  }

  async #place(number: number): Promise<Place> {
    const { engine, db } = this.#ground
    if (engine.kind === 'sqlite') return { engine: await open(this.#path(number)), db }
    const schema = this.#schemaOf(number)
    await migrate(engine, schema)
    return { engine, db: builder('postgres', schema) }
  }

  /** First they are there, then they are not here any more: whatever cuts it short, none is lost. */
  async #intoFile(partition: number): Promise<number> {
    const { db, engine } = this.#ground
    const target = await open(this.#path(partition))
    let moved = 0
    try {
      for (;;) {
        const rows = await this.#over(engine)
        if (rows.length === 0) return moved
        await target.transaction(async (statements) => {
          for (const cells of rows) {
            const tag = tagsToJson({ ...tagsFromJson(cells[TAG] as string), part: partition })
            await statements.run(
              query(INSERT, ...cells.map((cell, index) => (index === TAG ? tag : cell))),
            )
          }
        })
        const seqs = rows.map(([seq]) => seq as number)
        moved += await engine.run(db.deleteFrom('task').where('seq', 'in', seqs).compile())
      }
    } finally {
      if (this.#open.get(partition)?.engine !== target) await target.close()
    }
  }

  async #intoSchema(partition: number): Promise<number> {
    const { engine } = this.#ground
    const schema = this.#schemaOf(partition)
    await migrate(engine, schema)
    let moved = 0
    for (;;) {
      const rows = await engine.transaction((statements) =>
        statements.run(
          query(`WITH gone AS (DELETE FROM task WHERE seq IN (SELECT seq FROM task
              WHERE state IN (${OVER.map((state) => `'${state}'`).join(', ')}) ORDER BY seq LIMIT ${BATCH})
            RETURNING ${NAMES})
            INSERT INTO "${schema}".task (${NAMES}) SELECT ${COLUMNS.map((name) =>
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

  async #over(engine: Engine): Promise<(readonly unknown[])[]> {
    const rows: (readonly unknown[])[] = []
    for (const state of OVER) {
      const more = this.#ground.db
        .selectFrom('task')
        .select(COLUMNS)
        .where('state', '=', state)
        .orderBy('seq')
        .limit(sql.lit(BATCH))
      if (rows.length < BATCH) rows.push(...(await engine.cells(more.compile())))
    }
    return rows.slice(0, BATCH)
  }

  async #numbers(): Promise<number[]> {
    const { engine } = this.#ground
    const [row] = await engine.all<{ value: number }>(
      query("SELECT max(value) AS value FROM meta WHERE name IN ('partitions', 'rotating')"),
    )
    const all = Array.from({ length: Number(row?.value ?? 0) }, (_, index) => index + 1)
    if (engine.kind === 'sqlite') return all.filter((number) => existsSync(this.#path(number)))
    if (all.length === 0) return []
    const names = await engine.all<{ nspname: string }>(query('SELECT nspname FROM pg_namespace'))
    const known = new Set(names.map(({ nspname }) => nspname))
    return all.filter((number) => known.has(this.#schemaOf(number)))
  }

  #path(partition: number): string {
    return partitionPath(this.#ground.engine.name, partition)
  }

  #schemaOf(partition: number): string {
    return `${this.#schema}_part${partition}`
  }
}

const TAG = COLUMNS.indexOf('tag')
const INSERT = `INSERT OR IGNORE INTO task (${NAMES}) VALUES (${COLUMNS.map(() => '?').join(', ')})`

export function partitionPath(path: string, partition: number): string {
  return path.replace(/(\.[^./]+)?$/, `.part${partition}$1`)
}

async function open(path: string): Promise<SqliteEngine> {
  const engine = await SqliteEngine.open(path, {
    busyTimeout: 5_000,
    synchronous: 'normal',
    create: true,
  })
  await migrate(engine)
  return engine
}

async function setMeta(statements: Statements, name: string, value: number): Promise<void> {
  await statements.run(
    query(
      `INSERT INTO meta VALUES ('${name}', ${value}) ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
    ),
  )
}

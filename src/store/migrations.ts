/** Brings the tables of a database to the version that this program reads and writes. */
import { ManyhostError } from '../core/errors.ts'
import { wallClock } from '../core/time.ts'
import type { EngineKind } from './dialect.ts'
import { createQuery, type DatabaseEngine, type Statements } from './engine.ts'
import { describeForeignTables, SQLITE_TABLES_CONDITION } from './foreign-tables.ts'

/** What the tables of a store are, and how a store gets them. */
export interface StoreSchema {
  /** The script at index n brings a store from version n to n + 1. Their number is the version of this program. */
  readonly migrations: readonly ((kind: EngineKind) => string)[]
  /** Columns that a store of every version has, by table. A database with other tables is another program's. */
  readonly identifyingColumns: Readonly<Record<string, readonly string[]>>
  /** Rows of the table `meta` at the beginning, beside the version, the time and the counter of `wake`. */
  readonly initialMeta: Readonly<Record<string, number>>
}

/** A number of our own for PostgreSQL's advisory locks: several programs may open the same new store at once. */
const ADVISORY_LOCK = 7201

/**
 * Runs all missing migrations in one transaction.
 * @param schema PostgreSQL: the schema of the tables
 * @param create whether a store is made where there is none
 * @throws ManyhostError MANYHOST_STORE_VERSION for a newer store, or another program's tables
 */
export async function migrate(
  engine: DatabaseEngine,
  definition: StoreSchema,
  schema?: string,
  create = true,
): Promise<void> {
  const { migrations, initialMeta } = definition
  // The first look takes no lock: usually there is nothing to do.
  const found = await readSchemaVersion(engine, engine, definition, schema)
  if (found === migrations.length) return
  if (found === 0 && !create) {
    const place = engine.kind === 'sqlite' ? engine.name : `${engine.name}, schema ${schema}`
    throw new ManyhostError('MANYHOST_STORE_FAILED', `there is no store at ${place}`)
  }
  await engine.transaction(async (statements) => {
    if (engine.kind === 'postgres') {
      await statements.run(createQuery(`SELECT pg_advisory_xact_lock(${ADVISORY_LOCK})`))
      await statements.script(
        `CREATE SCHEMA IF NOT EXISTS "${schema}"; SET LOCAL search_path = "${schema}"`,
      )
    }
    // Another program may have made or migrated the store since the first look.
    const version = await readSchemaVersion(engine, statements, definition, schema)
    if (version === 0) await statements.script(createMeta(initialMeta))
    for (const step of migrations.slice(version)) await statements.script(step(engine.kind))
    await statements.run(
      createQuery(`UPDATE meta SET value = ${migrations.length} WHERE name = 'version'`),
    )
  })
}

function createMeta(initial: Readonly<Record<string, number>>): string {
  const rows = Object.entries({ version: 0, made_at: wallClock(), wake: 0, ...initial })
  return `CREATE TABLE meta (name TEXT PRIMARY KEY, value BIGINT NOT NULL);
    INSERT INTO meta VALUES ${rows.map(([name, value]) => `('${name}', ${value})`).join(', ')}`
}

/**
 * The version of a store; 0 for a database without tables. Changes nothing.
 * @throws ManyhostError MANYHOST_STORE_VERSION for a newer store, or another program's tables
 */
export async function readSchemaVersion(
  engine: DatabaseEngine,
  on: Statements,
  { migrations, identifyingColumns }: StoreSchema,
  schema?: string,
): Promise<number> {
  const columns = await readColumns(engine, on, schema)
  if (columns.size === 0) return 0
  const isOurs = Object.entries(identifyingColumns).every(([table, names]) =>
    names.every((name) => columns.get(table)?.has(name)),
  )
  const meta = engine.kind === 'sqlite' ? 'meta' : `"${schema}".meta`
  const [row] = isOurs
    ? await on.all<{ value: number }>(
        createQuery(`SELECT value FROM ${meta} WHERE name = 'version'`),
      )
    : []
  if (row === undefined || typeof row.value !== 'number') {
    const place = engine.kind === 'sqlite' ? engine.name : `the schema ${schema} of ${engine.name}`
    throw new ManyhostError(
      'MANYHOST_STORE_VERSION',
      `${place} is no store of manyhost: ${describeForeignTables([...columns.keys()])}; name another place`,
    )
  }
  if (row.value > migrations.length) {
    throw new ManyhostError(
      'MANYHOST_STORE_VERSION',
      `the store ${engine.name} has version ${row.value}, this manyhost knows up to ${migrations.length}: a newer manyhost is needed`,
    )
  }
  return row.value
}

/** The names of all columns, by table. */
async function readColumns(
  engine: DatabaseEngine,
  on: Statements,
  schema: string | undefined,
): Promise<Map<string, Set<string>>> {
  const select =
    engine.kind === 'sqlite'
      ? `SELECT m.name AS name, c.name AS field FROM sqlite_master AS m LEFT JOIN pragma_table_info(m.name) AS c WHERE ${SQLITE_TABLES_CONDITION}`
      : `SELECT table_name AS name, column_name AS field FROM information_schema.columns WHERE table_schema = '${schema}'`
  const columns = new Map<string, Set<string>>()
  for (const { name, field } of await on.all<{ name: string; field: string | null }>(
    createQuery(select),
  )) {
    const known = columns.get(name)
    if (known) known.add(field ?? '')
    else columns.set(name, new Set([field ?? '']))
  }
  return columns
}

/** What a database is to the store: statements that Kysely built (or that were built once), and transactions. */
import {
  DummyDriver,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from 'kysely'
import type { RowCells } from './row.ts'
import type { StoreTables } from './tables.ts'

export interface Query {
  readonly sql: string
  readonly parameters: readonly unknown[]
}

/** Statements, one after the other. */
export interface Statements {
  /** Rows as objects. */
  all<Row>(query: Query): Promise<Row[]>
  /** Rows of a query that selects COLUMNS of `task`, as cells in that order. */
  cells(query: Query): Promise<RowCells[]>
  /** How many rows were changed. */
  run(query: Query): Promise<number>
  /** Many statements, without parameters. */
  script(sql: string): Promise<void>
}

/** Reads see what is committed; writes go through `transaction`, which is tried again when another was in its way. */
export interface DatabaseEngine extends Statements {
  readonly kind: 'sqlite' | 'postgres'
  /** Where it is, without a password. */
  readonly name: string
  transaction<T>(work: (statements: Statements) => Promise<T>): Promise<T>
  /** Calls back soon after another process (or this one) said `wake`; answers how to stop. */
  onWake(callback: () => void): () => void
  /** Called within a transaction that makes tasks claimable: others hear of it once it is committed. */
  wake(statements: Statements): Promise<void>
  close(): Promise<void>
}

/** Queries are built and compiled by Kysely, and run by the engine: one prepared statement for each text. */
export function createQueryBuilder(
  kind: DatabaseEngine['kind'],
  schema?: string,
): Kysely<StoreTables> {
  const made = new Kysely<StoreTables>({
    dialect:
      kind === 'sqlite'
        ? {
            createAdapter: () => new SqliteAdapter(),
            createDriver: () => new DummyDriver(),
            createIntrospector: (db) => new SqliteIntrospector(db),
            createQueryCompiler: () => new SqliteQueryCompiler(),
          }
        : {
            createAdapter: () => new PostgresAdapter(),
            createDriver: () => new DummyDriver(),
            createIntrospector: (db) => new PostgresIntrospector(db),
            createQueryCompiler: () => new PostgresQueryCompiler(),
          },
  })
  return schema ? made.withSchema(schema) : made
}

/** A text with `?` for its parameters, as the engine wants it. For statements that are written once. */
export function numberParameters(kind: DatabaseEngine['kind'], sql: string): string {
  let count = 0
  return kind === 'sqlite' ? sql : sql.replaceAll('?', () => `$${++count}`)
}

export function createQuery(sql: string, ...parameters: unknown[]): Query {
  return { sql, parameters }
}

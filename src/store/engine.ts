/** A database as the stores see it: statements that were built by Kysely or written by hand, and transactions. */
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
import type { EngineKind, SqlDialect } from './dialect.ts'

export interface Query {
  readonly sql: string
  readonly parameters: readonly unknown[]
}

/** One row: its values, in the order of the columns. */
export type RowCells = readonly unknown[]

/** Runs statements one after the other. */
export interface Statements {
  /** Rows as objects. */
  all<Row>(query: Query): Promise<Row[]>
  /** Rows as arrays. On SQLite the query must select the columns that the engine was opened with. */
  cells(query: Query): Promise<RowCells[]>
  /** Resolves with the number of rows that were changed. */
  run(query: Query): Promise<number>
  /** Several statements without parameters, in one text. */
  script(sql: string): Promise<void>
}

/** Reads see what is committed. Writes go through `transaction`, which tries again after a conflict with another one. */
export interface DatabaseEngine extends Statements {
  readonly kind: EngineKind
  readonly dialect: SqlDialect
  /** The path or the address of the database, without a password. */
  readonly name: string
  transaction<T>(work: (statements: Statements) => Promise<T>): Promise<T>
  /** Calls back soon after any process, this one included, has committed a `wake`. Returns the function that stops this. */
  onWake(callback: () => void): () => void
  /** To be called within a transaction: everybody who listens hears of it once the transaction is committed. */
  wake(statements: Statements): Promise<void>
  close(): Promise<void>
}

/** Kysely builds and compiles queries; the engine runs them. Each text of a query is one prepared statement. */
export function createQueryBuilder<Tables>(kind: EngineKind, schema?: string): Kysely<Tables> {
  const builder = new Kysely<Tables>({
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
  return schema ? builder.withSchema(schema) : builder
}

export function createQuery(sql: string, ...parameters: unknown[]): Query {
  return { sql, parameters }
}

/**
 * SQLite in one file, or in memory. libsql works synchronously, so a store lives in a thread of its own
 * (`tasks/store/threaded-store.ts`). Even there each statement is kept small, and SQLite itself never waits long for a lock:
 * the engine tries again instead, and runs what else is query for meanwhile.
 */
import type Database from 'libsql'
import { exponentialDelay } from '../core/backoff.ts'
import { ManyhostError } from '../core/errors.ts'
import { every, now, sleep } from '../core/time.ts'
import { SQL_DIALECTS } from './dialect.ts'
import {
  createQuery,
  type DatabaseEngine,
  type Query,
  type RowCells,
  type Statements,
} from './engine.ts'
import { classifyDatabaseError, toStoreError } from './errors.ts'
import { PreparedCache } from './prepared-cache.ts'
import { openSqliteFile } from './sqlite-file.ts'

export interface SqliteEngineOptions {
  /** Milliseconds to try for a lock that another program holds. */
  readonly busyTimeout: number
  /** `full`: what was acknowledged also survives a power cut; `normal`: a crash of the program only. */
  readonly synchronous: 'full' | 'normal'
  /** Whether the file may be made. */
  readonly create: boolean
  /** The columns that queries for `cells` select. */
  readonly columns: readonly string[]
  /**
   * Reads the version of the tables; 0 means that there are none. It runs before anything is changed: the file may be another
   * program's.
   */
  readVersion(engine: DatabaseEngine): Promise<number>
}

/** Milliseconds that SQLite may wait for a lock. Its thread stands still meanwhile. */
const MAX_BLOCKING_MS = 10
/** Milliseconds between two looks for a `wake` of another process. */
const POLL_INTERVAL = 10
/** Milliseconds between two attempts to get a lock that another program holds. */
const LOCK_RETRY = { min: 1, max: 50 }

export class SqliteEngine implements DatabaseEngine {
  readonly kind = 'sqlite'
  readonly dialect = SQL_DIALECTS.sqlite
  readonly name: string
  readonly #database: Database.Database
  readonly #busyTimeout: number
  readonly #prepared: PreparedCache
  readonly #rowAsJson: string
  /** Settles when the last transaction that was query for has ended. Transactions run one after the other. */
  #lastTransaction: Promise<unknown> = Promise.resolve()
  #isInTransaction = false
  #isClosed = false
  readonly #pollTimers = new Set<{ clear(): void }>()

  private constructor(path: string, options: SqliteEngineOptions) {
    this.name = path
    this.#busyTimeout = options.busyTimeout
    this.#rowAsJson = `json_array(${options.columns.map((name) => `"${name}"`).join(', ')})`
    // The file has the command lines of this user.
    this.#database = openSqliteFile(path, { isPrivate: options.create })
    this.#prepared = new PreparedCache(this.#database)
    this.#database.pragma(`busy_timeout = ${MAX_BLOCKING_MS}`)
  }

  static async open(path: string, options: SqliteEngineOptions): Promise<SqliteEngine> {
    let engine: SqliteEngine | undefined
    try {
      engine = new SqliteEngine(path, options)
      const opened = engine
      // Before anything is changed, even the journal mode.
      const version = await options.readVersion(opened)
      if (version === 0 && !options.create && path !== ':memory:') {
        throw new ManyhostError('MANYHOST_STORE_FAILED', `there is no store at ${path}`)
      }
      // Each of these reads the file, and another program may be making the same store just now.
      await opened.#retryWhileBusy(() => {
        opened.#database.pragma('journal_mode = wal')
        opened.#database.pragma(`synchronous = ${options.synchronous}`)
        // 64 MiB of pages: the upper levels of every index, for tens of millions of rows.
        opened.#database.pragma('cache_size = -65536')
      })
      return opened
    } catch (error) {
      await engine?.close()
      throw toStoreError(path, error)
    }
  }

  async all<Row>(query: Query): Promise<Row[]> {
    await this.#waitForTransactions()
    return this.#retryWhileBusy(() => this.#readRows<Row>(query))
  }

  async cells(query: Query): Promise<RowCells[]> {
    await this.#waitForTransactions()
    return this.#retryWhileBusy(() => this.#readCells(query))
  }

  run(query: Query): Promise<number> {
    return this.transaction((statements) => statements.run(query))
  }

  async script(sql: string): Promise<void> {
    await this.#waitForTransactions()
    await this.#retryWhileBusy(() => this.#database.exec(sql))
  }

  transaction<T>(work: (statements: Statements) => Promise<T>): Promise<T> {
    const result = this.#lastTransaction.then(() => this.#runTransaction(work))
    this.#lastTransaction = result.catch(() => {})
    return result
  }

  onWake(callback: () => void): () => void {
    let version: unknown
    let woken = -1
    const look = (): void => {
      if (this.#isClosed || this.#isInTransaction) return
      try {
        const [row] = this.#readRows<{ data_version: number }>(createQuery('PRAGMA data_version'))
        if (row?.data_version === version) return
        version = row?.data_version
        const [wake] = this.#readRows<{ value: number }>(SELECT_WAKE)
        if (woken >= 0 && wake?.value !== woken) callback()
        woken = wake?.value ?? 0
      } catch {
        // The database is busy: the next look reads it again.
        version = undefined
      }
    }
    look()
    const timer = every(POLL_INTERVAL, look)
    this.#pollTimers.add(timer)
    return () => {
      timer.clear()
      this.#pollTimers.delete(timer)
    }
  }

  async wake(statements: Statements): Promise<void> {
    await statements.run(createQuery("UPDATE meta SET value = value + 1 WHERE name = 'wake'"))
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    await this.#lastTransaction
    this.#isClosed = true
    for (const timer of this.#pollTimers) timer.clear()
    this.#prepared.clear()
    this.#database.close()
  }

  /** A statement outside of a transaction must not run within somebody else's. */
  async #waitForTransactions(): Promise<void> {
    while (this.#isInTransaction) await this.#lastTransaction
  }

  async #runTransaction<T>(work: (statements: Statements) => Promise<T>): Promise<T> {
    await this.#retryWhileBusy(() => this.#database.exec('BEGIN IMMEDIATE'))
    this.#isInTransaction = true
    try {
      const result = await work({
        all: async (query) => this.#readRows(query),
        cells: async (query) => this.#readCells(query),
        run: async (query) =>
          this.#prepared.get(query.sql).run(query.parameters as unknown[]).changes,
        script: async (sql) => void this.#database.exec(sql),
      })
      await this.#retryWhileBusy(() => this.#database.exec('COMMIT'))
      return result
    } catch (error) {
      // A full disk may have ended the transaction by itself.
      if (this.#database.inTransaction) this.#database.exec('ROLLBACK')
      throw toStoreError(this.name, error)
    } finally {
      this.#isInTransaction = false
    }
  }

  #readRows<Row>({ sql, parameters }: Query): Row[] {
    return this.#prepared.get(sql).all(parameters) as Row[]
  }

  /** Each row comes as one JSON text instead of thirty values: passing a value from libsql to JavaScript is the costly part. */
  #readCells({ sql, parameters }: Query): RowCells[] {
    const rows = this.#prepared
      .get(`SELECT ${this.#rowAsJson} AS row FROM (${sql})`)
      .all(parameters)
    return (rows as { row: string }[]).map(({ row }) => JSON.parse(row))
  }

  /** Tries again for as long as another program holds the lock, up to `busyTimeout`. */
  async #retryWhileBusy<T>(attempt: () => T): Promise<T> {
    if (this.#isClosed) throw new ManyhostError('MANYHOST_STORE_FAILED', 'the store is closed')
    const begun = now()
    for (let failures = 0; ; failures++) {
      try {
        return attempt()
      } catch (error) {
        const waited = now() - begun
        if (classifyDatabaseError(error) !== 'busy' || waited >= this.#busyTimeout) {
          throw toStoreError(this.name, error, waited)
        }
        await sleep(exponentialDelay(failures, LOCK_RETRY))
      }
    }
  }
}

const SELECT_WAKE = createQuery("SELECT value FROM meta WHERE name = 'wake'")

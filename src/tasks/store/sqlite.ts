/**
 * SQLite in one file, or in memory. `libsql` works synchronously, so a store lives in a thread of its own (`threaded.ts`).
 * Even there it keeps each statement small (batches), and never lets SQLite itself wait for a lock: it tries again from
 * here, and answers what else is asked meanwhile.
 */
import Database from 'libsql'
import { ManyhostError } from '../../core/errors.ts'
import { every, now, sleep } from '../../core/time.ts'
import { createPrivateFile } from '../../posix/private-files.ts'
import { classifyDatabaseError, toStoreError } from '../../store/errors.ts'
import { createQuery, type DatabaseEngine, type Query, type Statements } from './engine.ts'
import type { RowCells } from './row.ts'
import { readVersion } from './schema.ts'
import { TASK_COLUMNS_SQL } from './tables.ts'

export interface SqliteEngineOptions {
  /** Milliseconds to try for a lock that another program holds. */
  readonly busyTimeout: number
  /** `full`: what was acknowledged also survives a power cut; `normal`: a crash of the program only. */
  readonly synchronous: 'full' | 'normal'
  /** Whether the file may be made. */
  readonly create: boolean
}

/** Milliseconds that SQLite may wait for a lock while its thread stands still. */
const MAX_BLOCKING_MS = 10
/** Milliseconds between looks whether another process handed something in. */
const POLL_INTERVAL = 10
/** Prepared statements that are kept; texts of filters are as many as there are users. */
const MAX_PREPARED = 200

const ROW_AS_JSON = `json_array(${TASK_COLUMNS_SQL})`

export class SqliteEngine implements DatabaseEngine {
  readonly kind = 'sqlite'
  readonly name: string
  readonly #database: Database.Database
  readonly #busyTimeout: number
  readonly #prepared = new Map<string, Database.Statement<unknown[]>>()
  /** The transaction that is under way, and those that wait for it. */
  #lastTransaction: Promise<unknown> = Promise.resolve()
  #isInTransaction = false
  #isClosed = false
  readonly #pollTimers = new Set<{ clear(): void }>()

  private constructor(path: string, options: SqliteEngineOptions) {
    this.name = path
    this.#busyTimeout = options.busyTimeout
    if (path !== ':memory:' && options.create) {
      try {
        // The commands in it are for nobody else.
        createPrivateFile(path)
      } catch {
        // The database says why it cannot be made.
      }
    }
    this.#database = new Database(path)
    this.#database.pragma(`busy_timeout = ${MAX_BLOCKING_MS}`)
  }

  static async open(path: string, options: SqliteEngineOptions): Promise<SqliteEngine> {
    let engine: SqliteEngine | undefined
    try {
      engine = new SqliteEngine(path, options)
      const opened = engine
      // Looked at before anything is changed, and be it the journal: it may be another program's.
      const version = await readVersion(opened, opened)
      if (version === 0 && !options.create && path !== ':memory:') {
        throw new ManyhostError('MANYHOST_STORE_FAILED', `there is no store at ${path}`)
      }
      // Another program may be making the store, and changing to the same mode, just now: each of these reads the file.
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

  async all<Row>(asked: Query): Promise<Row[]> {
    await this.#waitForTransactions()
    return this.#retryWhileBusy(() => this.#readRows<Row>(asked))
  }

  async cells(asked: Query): Promise<RowCells[]> {
    await this.#waitForTransactions()
    return this.#retryWhileBusy(() => this.#readCells(asked))
  }

  run(asked: Query): Promise<number> {
    return this.transaction((statements) => statements.run(asked))
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
        // Busy: the next look sees it.
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

  /** Waits for the transactions that are under way: their statements are not to be mixed with others. */
  async #waitForTransactions(): Promise<void> {
    while (this.#isInTransaction) await this.#lastTransaction
  }

  async #runTransaction<T>(work: (statements: Statements) => Promise<T>): Promise<T> {
    await this.#retryWhileBusy(() => this.#database.exec('BEGIN IMMEDIATE'))
    this.#isInTransaction = true
    try {
      const result = await work({
        all: async (asked) => this.#readRows(asked),
        cells: async (asked) => this.#readCells(asked),
        run: async (asked) => this.#prepare(asked.sql).run(asked.parameters as unknown[]).changes,
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
    return this.#prepare(sql).all(parameters) as Row[]
  }

  /** One text a row instead of thirty values: the way from the library into JavaScript is what costs. */
  #readCells({ sql, parameters }: Query): RowCells[] {
    const rows = this.#prepare(`SELECT ${ROW_AS_JSON} AS row FROM (${sql})`).all(parameters)
    return (rows as { row: string }[]).map(({ row }) => JSON.parse(row))
  }

  #prepare(sql: string): Database.Statement<unknown[]> {
    const known = this.#prepared.get(sql)
    if (known) return known
    const made = this.#database.prepare(sql)
    if (this.#prepared.size >= MAX_PREPARED) {
      this.#prepared.delete(this.#prepared.keys().next().value as string)
    }
    this.#prepared.set(sql, made)
    return made
  }

  /** Tries again for as long as another program holds the lock, up to `busyTimeout`. */
  async #retryWhileBusy<T>(attempt: () => T): Promise<T> {
    if (this.#isClosed) throw new ManyhostError('MANYHOST_STORE_FAILED', 'the store is closed')
    const begun = now()
    for (let pause = 1; ; pause = Math.min(2 * pause, 50)) {
      try {
        return attempt()
      } catch (error) {
        const waited = now() - begun
        if (classifyDatabaseError(error) !== 'busy' || waited >= this.#busyTimeout) {
          throw toStoreError(this.name, error, waited)
        }
        await sleep(pause)
      }
    }
  }
}

const SELECT_WAKE = createQuery("SELECT value FROM meta WHERE name = 'wake'")

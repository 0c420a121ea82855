/**
 * SQLite in one file, or in memory. `libsql` works synchronously, so a store lives in a thread of its own (`threaded.ts`).
 * Even there it keeps each statement small (batches), and never lets SQLite itself wait for a lock: it tries again from
 * here, and answers what else is asked meanwhile.
 */
import Database from 'libsql'
import { ManyhostError } from '../../core/errors.ts'
import { every, now, sleep } from '../../core/time.ts'
import { createPrivateFile } from '../../posix/private.ts'
import { type Engine, type Query, query, type Statements } from './engine.ts'
import type { Cells } from './row.ts'
import { versionOf } from './schema.ts'
import { COLUMNS } from './tables.ts'
import { kindOf, trouble } from './trouble.ts'

export interface SqliteOptions {
  /** Milliseconds to try for a lock that another program holds. */
  readonly busyTimeout: number
  /** `full`: what was acknowledged also survives a power cut; `normal`: a crash of the program only. */
  readonly synchronous: 'full' | 'normal'
  /** Whether the file may be made. */
  readonly create: boolean
}

/** Milliseconds that SQLite may wait for a lock while its thread stands still. */
const STANDSTILL = 10
/** Milliseconds between looks whether another process handed something in. */
const LOOK = 10
/** Prepared statements that are kept; texts of filters are as many as there are users. */
const MOST_PREPARED = 200

const ROW = `json_array(${COLUMNS.map((name) => `"${name}"`).join(', ')})`

export class SqliteEngine implements Engine {
  readonly kind = 'sqlite'
  readonly name: string
  readonly #database: Database.Database
  readonly #busyTimeout: number
  readonly #prepared = new Map<string, Database.Statement<unknown[]>>()
  /** The transaction that is under way, and those that wait for it. */
  #turn: Promise<unknown> = Promise.resolve()
  #isHeld = false
  #isClosed = false
  readonly #looks = new Set<{ clear(): void }>()

  private constructor(path: string, options: SqliteOptions) {
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
    this.#database.pragma(`busy_timeout = ${STANDSTILL}`)
  }

  static async open(path: string, options: SqliteOptions): Promise<SqliteEngine> {
    let engine: SqliteEngine | undefined
    try {
      engine = new SqliteEngine(path, options)
      const opened = engine
      // Looked at before anything is changed, and be it the journal: it may be another program's.
      const version = await versionOf(opened, opened)
      if (version === 0 && !options.create && path !== ':memory:') {
        throw new ManyhostError('MANYHOST_STORE_FAILED', `there is no store at ${path}`)
      }
      // Another program may be making the store, and changing to the same mode, just now: each of these reads the file.
      await opened.#again(() => {
        opened.#database.pragma('journal_mode = wal')
        opened.#database.pragma(`synchronous = ${options.synchronous}`)
        // 64 MiB of pages: the upper levels of every index, for tens of millions of rows.
        opened.#database.pragma('cache_size = -65536')
      })
      return opened
    } catch (error) {
      await engine?.close()
      throw trouble(path, error)
    }
  }

  async all<Row>(asked: Query): Promise<Row[]> {
    await this.#idle()
    return this.#again(() => this.#all<Row>(asked))
  }

  async cells(asked: Query): Promise<Cells[]> {
    await this.#idle()
    return this.#again(() => this.#cells(asked))
  }

  run(asked: Query): Promise<number> {
    return this.transaction((statements) => statements.run(asked))
  }

  async script(sql: string): Promise<void> {
    await this.#idle()
    await this.#again(() => this.#database.exec(sql))
  }

  transaction<T>(work: (statements: Statements) => Promise<T>): Promise<T> {
    const result = this.#turn.then(() => this.#transaction(work))
    this.#turn = result.catch(() => {})
    return result
  }

  listen(callback: () => void): () => void {
    let version: unknown
    let woken = -1
    const look = (): void => {
      if (this.#isClosed || this.#isHeld) return
      try {
        const [row] = this.#all<{ data_version: number }>(query('PRAGMA data_version'))
        if (row?.data_version === version) return
        version = row?.data_version
        const [wake] = this.#all<{ value: number }>(WOKEN)
        if (woken >= 0 && wake?.value !== woken) callback()
        woken = wake?.value ?? 0
      } catch {
        // Busy: the next look sees it.
        version = undefined
      }
    }
    look()
    const timer = every(LOOK, look)
    this.#looks.add(timer)
    return () => {
      timer.clear()
      this.#looks.delete(timer)
    }
  }

  async wake(statements: Statements): Promise<void> {
    await statements.run(query("UPDATE meta SET value = value + 1 WHERE name = 'wake'"))
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    await this.#turn
    this.#isClosed = true
    for (const timer of this.#looks) timer.clear()
    this.#prepared.clear()
    this.#database.close()
  }

  /** Waits for the transactions that are under way: their statements are not to be mixed with others. */
  async #idle(): Promise<void> {
    while (this.#isHeld) await this.#turn
  }

  async #transaction<T>(work: (statements: Statements) => Promise<T>): Promise<T> {
    await this.#again(() => this.#database.exec('BEGIN IMMEDIATE'))
    this.#isHeld = true
    try {
      const result = await work({
        all: async (asked) => this.#all(asked),
        cells: async (asked) => this.#cells(asked),
        run: async (asked) => this.#statement(asked.sql).run(asked.parameters as unknown[]).changes,
        script: async (sql) => void this.#database.exec(sql),
      })
      await this.#again(() => this.#database.exec('COMMIT'))
      return result
    } catch (error) {
      // A full disk may have ended the transaction by itself.
      if (this.#database.inTransaction) this.#database.exec('ROLLBACK')
      throw trouble(this.name, error)
    } finally {
      this.#isHeld = false
    }
  }

  #all<Row>({ sql, parameters }: Query): Row[] {
    return this.#statement(sql).all(parameters) as Row[]
  }

  /** One text a row instead of thirty values: the way from the library into JavaScript is what costs. */
  #cells({ sql, parameters }: Query): Cells[] {
    const rows = this.#statement(`SELECT ${ROW} AS row FROM (${sql})`).all(parameters)
    return (rows as { row: string }[]).map(({ row }) => JSON.parse(row))
  }

  #statement(sql: string): Database.Statement<unknown[]> {
    const known = this.#prepared.get(sql)
    if (known) return known
    const made = this.#database.prepare(sql)
    if (this.#prepared.size >= MOST_PREPARED) {
      this.#prepared.delete(this.#prepared.keys().next().value as string)
    }
    this.#prepared.set(sql, made)
    return made
  }

  /** Tries again for as long as another program holds the lock, up to `busyTimeout`. */
  async #again<T>(attempt: () => T): Promise<T> {
    if (this.#isClosed) throw new ManyhostError('MANYHOST_STORE_FAILED', 'the store is closed')
    const begun = now()
    for (let pause = 1; ; pause = Math.min(2 * pause, 50)) {
      try {
        return attempt()
      } catch (error) {
        const waited = now() - begun
        if (kindOf(error) !== 'busy' || waited >= this.#busyTimeout) {
          throw trouble(this.name, error, waited)
        }
        await sleep(pause)
      }
    }
  }
}

const WOKEN = query("SELECT value FROM meta WHERE name = 'wake'")

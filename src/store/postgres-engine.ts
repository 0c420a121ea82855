/** PostgreSQL, for stores that several machines share. */
import type { Pool, PoolClient } from 'pg'
import { describeError, ManyhostError } from '../core/errors.ts'
import { after, now, sleep, type Timer } from '../core/time.ts'
import { SQL_DIALECTS } from './dialect.ts'
import type { DatabaseEngine, Query, RowCells, Statements } from './engine.ts'
import { toStoreError } from './errors.ts'
import { loadPg } from './load-pg.ts'

export interface PostgresEngineOptions {
  readonly schema: string
  /** Milliseconds to wait for a lock. */
  readonly busyTimeout: number
  /** Connections at most, one of which listens. */
  readonly connections: number
}

/** Milliseconds before a broken connection that listens is made again. */
const RECONNECT_DELAY = 1_000
/** Milliseconds. */
const CONNECT_TIMEOUT = 10_000
/** Milliseconds before a transaction that lost a conflict is tried again. */
const CONFLICT_RETRY = 5

/** Numbers become numbers (all integers of a store are safe), booleans booleans, everything else a text. */
const types = {
  getTypeParser: (oid: number) => PARSERS[oid] ?? String,
}

const PARSERS: Readonly<Record<number, (text: string) => unknown>> = {
  16: (text) => text === 't',
  20: Number,
  21: Number,
  23: Number,
  700: Number,
  701: Number,
  1700: Number,
}

export class PostgresEngine implements DatabaseEngine {
  readonly kind = 'postgres'
  readonly dialect = SQL_DIALECTS.postgres
  readonly name: string
  readonly #pool: Pool
  readonly #options: PostgresEngineOptions
  readonly #statements: Statements
  #isClosed = false
  #listening: Promise<void> | undefined
  #listenClient: PoolClient | undefined
  #reconnectTimer: Timer | undefined
  readonly #callbacks = new Set<() => void>()

  private constructor(pool: Pool, name: string, options: PostgresEngineOptions) {
    this.#pool = pool
    this.name = name
    this.#options = options
    // The pool replaces a connection that breaks while it is idle.
    pool.on('error', () => {})
    this.#statements = statementsOn(pool)
  }

  static async open(url: string, options: PostgresEngineOptions): Promise<PostgresEngine> {
    const name = redactPassword(url)
    const pg = await loadPg(`the store at ${name}`, 'MANYHOST_STORE_FAILED')
    const pool = new pg.Pool({
      connectionString: url,
      max: options.connections,
      connectionTimeoutMillis: CONNECT_TIMEOUT,
      options: `-c search_path=${options.schema} -c lock_timeout=${options.busyTimeout}`,
      types,
    })
    const engine = new PostgresEngine(pool, name, options)
    try {
      await engine.all({ sql: 'SELECT 1', parameters: [] })
      return engine
    } catch (error) {
      await engine.close()
      throw error
    }
  }

  all<Row>(query: Query): Promise<Row[]> {
    return this.#translateErrors(this.#statements.all(query))
  }

  cells(query: Query): Promise<RowCells[]> {
    return this.#translateErrors(this.#statements.cells(query))
  }

  run(query: Query): Promise<number> {
    return this.transaction((statements) => statements.run(query))
  }

  script(sql: string): Promise<void> {
    return this.#translateErrors(this.#statements.script(sql))
  }

  async transaction<T>(work: (statements: Statements) => Promise<T>): Promise<T> {
    const begun = now()
    for (;;) {
      const client = await this.#pool.connect().catch((error: unknown) => {
        throw toStoreError(this.name, error)
      })
      let broken: Error | undefined
      const onError = (error: Error): void => {
        broken = error
      }
      client.on('error', onError)
      try {
        await client.query('BEGIN')
        const result = await work(statementsOn(client))
        await client.query('COMMIT')
        return result
      } catch (error) {
        await client.query('ROLLBACK').catch((failure: Error) => {
          broken ??= failure
        })
        // A conflict with another transaction: PostgreSQL ended one of the two, and that one is tried again.
        const isConflict = ['40001', '40P01'].includes(String((error as { code?: string }).code))
        if (!isConflict || now() - begun > this.#options.busyTimeout) {
          throw toStoreError(this.name, error, now() - begun)
        }
      } finally {
        client.off('error', onError)
        client.release(broken)
      }
      await sleep(CONFLICT_RETRY)
    }
  }

  onWake(callback: () => void): () => void {
    this.#callbacks.add(callback)
    this.#listening ??= this.#startListening()
    return () => void this.#callbacks.delete(callback)
  }

  async wake(statements: Statements): Promise<void> {
    await statements.all({ sql: 'SELECT pg_notify($1, $2)', parameters: [this.#channel, ''] })
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#reconnectTimer?.clear()
    await this.#listening
    this.#listenClient?.release(true)
    await this.#pool.end()
  }

  get #channel(): string {
    return `manyhost_${this.#options.schema}`
  }

  /** Listens on a connection of its own. When that breaks, it calls back after it was made again: a `wake` may have been missed. */
  async #startListening(): Promise<void> {
    try {
      const client = await this.#pool.connect()
      if (this.#isClosed) return client.release(true)
      this.#listenClient = client
      client.on('notification', () => this.#notifyListeners())
      client.on('error', () => {
        this.#listenClient = undefined
        client.release(true)
        this.#listenAgainLater()
      })
      await client.query(`LISTEN "${this.#channel}"`)
      this.#notifyListeners()
    } catch {
      this.#listenAgainLater()
    }
  }

  #listenAgainLater(): void {
    if (this.#isClosed) return
    this.#reconnectTimer?.clear()
    this.#reconnectTimer = after(RECONNECT_DELAY, () => {
      this.#listening = this.#startListening()
    })
  }

  #notifyListeners(): void {
    for (const callback of this.#callbacks) callback()
  }

  #translateErrors<T>(result: Promise<T>): Promise<T> {
    return result.catch((error: unknown) => {
      throw toStoreError(this.name, error)
    })
  }
}

function statementsOn(connection: Pool | PoolClient): Statements {
  return {
    all: async (query) => (await connection.query(query.sql, [...query.parameters])).rows,
    cells: async (query) =>
      (
        await connection.query({
          text: query.sql,
          values: [...query.parameters],
          rowMode: 'array',
        })
      ).rows as unknown as RowCells[],
    run: async (query) => (await connection.query(query.sql, [...query.parameters])).rowCount ?? 0,
    script: async (sql) => void (await connection.query(sql)),
  }
}

/** The address without its password, for messages. @throws ManyhostError MANYHOST_INVALID_OPTION */
export function redactPassword(url: string): string {
  try {
    const parsed = new URL(url)
    return `postgres://${parsed.username ? `${parsed.username}@` : ''}${parsed.host}${parsed.pathname}`
  } catch (error) {
    // The message does not show the text: the password may be in it.
    throw new ManyhostError(
      'MANYHOST_INVALID_OPTION',
      `the address of a PostgreSQL must be a URL such as postgres://me@db/jobs: ${describeError(error).slice(0, 40)}`,
    )
  }
}

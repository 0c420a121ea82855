/** PostgreSQL, for stores that several servers share. `pg` is an optional peer: it is loaded when it is used. */
import type { Pool, PoolClient } from 'pg'
import { describeError, ManyhostError } from '../../core/errors.ts'
import { after, now, sleep, type Timer } from '../../core/time.ts'
import { toStoreError } from '../../store/errors.ts'
import type { DatabaseEngine, Query, Statements } from './engine.ts'
import type { RowCells } from './row.ts'

export interface PostgresEngineOptions {
  readonly schema: string
  /** Milliseconds to wait for a lock. */
  readonly busyTimeout: number
  /** Connections at most. */
  readonly connections: number
}

const RECONNECT_DELAY = 1_000
const CONNECT_TIMEOUT = 10_000

/** Big integers as numbers (all of ours are safe), everything else as text or number as it comes. */
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
    // A connection that breaks while idle is replaced by the pool.
    pool.on('error', () => {})
    this.#statements = statementsOn(pool)
  }

  static async open(url: string, options: PostgresEngineOptions): Promise<PostgresEngine> {
    const name = redactPassword(url)
    const pg = await import('pg').catch((cause: unknown) => {
      throw new ManyhostError(
        'MANYHOST_STORE_FAILED',
        `a store at ${name} needs the package 'pg', which is not installed`,
        { cause },
      )
    })
    const pool = new pg.default.Pool({
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

  all<Row>(asked: Query): Promise<Row[]> {
    return this.#translateErrors(this.#statements.all(asked))
  }

  cells(asked: Query): Promise<RowCells[]> {
    return this.#translateErrors(this.#statements.cells(asked))
  }

  run(asked: Query): Promise<number> {
    return this.transaction((statements) => statements.run(asked))
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
        // Two transactions in each other's way: one of them goes again.
        const isTurnedAway = ['40001', '40P01'].includes(String((error as { code?: string }).code))
        if (!isTurnedAway || now() - begun > this.#options.busyTimeout) {
          throw toStoreError(this.name, error, now() - begun)
        }
      } finally {
        client.off('error', onError)
        client.release(broken)
      }
      await sleep(5)
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

  /** Listens on a connection of its own; when that breaks, calls back once it is there again: something may have come. */
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
    all: async (asked) => (await connection.query(asked.sql, [...asked.parameters])).rows,
    cells: async (asked) =>
      (
        await connection.query({
          text: asked.sql,
          values: [...asked.parameters],
          rowMode: 'array',
        })
      ).rows as unknown as RowCells[],
    run: async (asked) => (await connection.query(asked.sql, [...asked.parameters])).rowCount ?? 0,
    script: async (sql) => void (await connection.query(sql)),
  }
}

/** For messages. @throws ManyhostError MANYHOST_INVALID_OPTION */
export function redactPassword(url: string): string {
  try {
    const parsed = new URL(url)
    return `postgres://${parsed.username ? `${parsed.username}@` : ''}${parsed.host}${parsed.pathname}`
  } catch (error) {
    // Not even the text: it may have the password in it.
    throw new ManyhostError(
      'MANYHOST_INVALID_OPTION',
      `no URL of a PostgreSQL: ${describeError(error).slice(0, 40)}`,
    )
  }
}

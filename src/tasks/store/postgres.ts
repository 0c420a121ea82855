/** PostgreSQL, for stores that several servers share. `pg` is an optional peer: it is loaded when it is used. */
import type { Pool, PoolClient } from 'pg'
import { describe, ManyhostError } from '../../core/errors.ts'
import { after, now, sleep, type Timer } from '../../core/time.ts'
import type { Engine, Query, Statements } from './engine.ts'
import type { Cells } from './row.ts'
import { trouble } from './trouble.ts'

export interface PostgresOptions {
  readonly schema: string
  /** Milliseconds to wait for a lock. */
  readonly busyTimeout: number
  /** Connections at most. */
  readonly connections: number
}

const RECONNECT = 1_000
const CONNECT = 10_000

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

export class PostgresEngine implements Engine {
  readonly kind = 'postgres'
  readonly name: string
  readonly #pool: Pool
  readonly #options: PostgresOptions
  readonly #statements: Statements
  #isClosed = false
  #listener: Promise<void> | undefined
  #hearing: PoolClient | undefined
  #reconnect: Timer | undefined
  readonly #callbacks = new Set<() => void>()

  private constructor(pool: Pool, name: string, options: PostgresOptions) {
    this.#pool = pool
    this.name = name
    this.#options = options
    // A connection that breaks while idle is replaced by the pool.
    pool.on('error', () => {})
    this.#statements = on(pool)
  }

  static async open(url: string, options: PostgresOptions): Promise<PostgresEngine> {
    const name = withoutPassword(url)
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
      connectionTimeoutMillis: CONNECT,
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
    return this.#told(this.#statements.all(asked))
  }

  cells(asked: Query): Promise<Cells[]> {
    return this.#told(this.#statements.cells(asked))
  }

  run(asked: Query): Promise<number> {
    return this.transaction((statements) => statements.run(asked))
  }

  script(sql: string): Promise<void> {
    return this.#told(this.#statements.script(sql))
  }

  async transaction<T>(work: (statements: Statements) => Promise<T>): Promise<T> {
    const begun = now()
    for (;;) {
      const client = await this.#pool.connect().catch((error: unknown) => {
        throw trouble(this.name, error)
      })
      let broken: Error | undefined
      const onError = (error: Error): void => {
        broken = error
      }
      client.on('error', onError)
      try {
        await client.query('BEGIN')
        const result = await work(on(client))
        await client.query('COMMIT')
        return result
      } catch (error) {
        await client.query('ROLLBACK').catch((failure: Error) => {
          broken ??= failure
        })
        // Two transactions in each other's way: one of them goes again.
        const isTurnedAway = ['40001', '40P01'].includes(String((error as { code?: string }).code))
        if (!isTurnedAway || now() - begun > this.#options.busyTimeout) {
          throw trouble(this.name, error, now() - begun)
        }
      } finally {
        client.off('error', onError)
        client.release(broken)
      }
      await sleep(5)
    }
  }

  listen(callback: () => void): () => void {
    this.#callbacks.add(callback)
    this.#listener ??= this.#hear()
    return () => void this.#callbacks.delete(callback)
  }

  async wake(statements: Statements): Promise<void> {
    await statements.all({ sql: 'SELECT pg_notify($1, $2)', parameters: [this.#channel, ''] })
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#reconnect?.clear()
    await this.#listener
    this.#hearing?.release(true)
    await this.#pool.end()
  }

  get #channel(): string {
    return `manyhost_${this.#options.schema}`
  }

  /** Listens on a connection of its own; when that breaks, calls back once it is there again: something may have come. */
  async #hear(): Promise<void> {
    try {
      const client = await this.#pool.connect()
      if (this.#isClosed) return client.release(true)
      this.#hearing = client
      client.on('notification', () => this.#call())
      client.on('error', () => {
        this.#hearing = undefined
        client.release(true)
        this.#hearLater()
      })
      await client.query(`LISTEN "${this.#channel}"`)
      this.#call()
    } catch {
      this.#hearLater()
    }
  }

  #hearLater(): void {
    if (this.#isClosed) return
    this.#reconnect?.clear()
    this.#reconnect = after(RECONNECT, () => {
      this.#listener = this.#hear()
    })
  }

  #call(): void {
    for (const callback of this.#callbacks) callback()
  }

  #told<T>(result: Promise<T>): Promise<T> {
    return result.catch((error: unknown) => {
      throw trouble(this.name, error)
    })
  }
}

function on(connection: Pool | PoolClient): Statements {
  return {
    all: async (asked) => (await connection.query(asked.sql, [...asked.parameters])).rows,
    cells: async (asked) =>
      (
        await connection.query({
          text: asked.sql,
          values: [...asked.parameters],
          rowMode: 'array',
        })
      ).rows as unknown as Cells[],
    run: async (asked) => (await connection.query(asked.sql, [...asked.parameters])).rowCount ?? 0,
    script: async (sql) => void (await connection.query(sql)),
  }
}

/** For messages. @throws ManyhostError MANYHOST_INVALID_OPTION */
export function withoutPassword(url: string): string {
  try {
    const parsed = new URL(url)
    return `postgres://${parsed.username ? `${parsed.username}@` : ''}${parsed.host}${parsed.pathname}`
  } catch (error) {
    // Not even the text: it may have the password in it.
    throw new ManyhostError(
      'MANYHOST_INVALID_OPTION',
      `no URL of a PostgreSQL: ${describe(error).slice(0, 40)}`,
    )
  }
}

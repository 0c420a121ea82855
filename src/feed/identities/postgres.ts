/** Identities from PostgreSQL: the original's table `auth_keys`. The package `pg` is loaded when this is used. */
import type { Pool } from 'pg'
import { describeError, ManyhostError } from '../../core/errors.ts'
import type { IdentitySource } from '../rights.ts'
import { type IdentityRow, parseIdentityRow } from './sqlite.ts'

export interface FeedPostgresOptions {
  /** Milliseconds that one look-up may take. @default 5000 */
  readonly timeout?: number
  /** Connections to the database at most. @default 4 */
  readonly connections?: number
}

const FIND_IDENTITY =
  'select identifier, secret, pubchans, subchans from auth_keys where identifier = $1 limit 1'

interface AuthKeyRow extends Omit<IdentityRow, 'ident' | 'owner'> {
  readonly identifier: string
}

/** `postgresql://...`, or `database+postgresql://...` as the original writes it. Asked at each connection. */
export function fromPostgres(
  url: string,
  { timeout = 5_000, connections = 4 }: FeedPostgresOptions = {},
): IdentitySource {
  let pool: Pool | undefined
  return {
    async find(ident) {
      if (!pool) throw new Error('the database is not open')
      const { rows } = await pool.query<AuthKeyRow>(FIND_IDENTITY, [ident])
      const [row] = rows
      return row && parseIdentityRow('auth_keys', ident, { ...row, ident, owner: row.identifier })
    },
    async start(onError) {
      const { Pool: PoolClass } = await loadPgPackage()
      pool = new PoolClass({
        connectionString: url.replace(/^database\+/, ''),
        max: connections,
        connectionTimeoutMillis: timeout,
        query_timeout: timeout,
      })
      // Of an idle connection; without a listener it would end the process.
      pool.on('error', onError)
    },
    async close() {
      const ending = pool?.end()
      pool = undefined
      await ending
    },
  }
}

async function loadPgPackage(): Promise<{ readonly Pool: typeof Pool }> {
  try {
    const { default: pg } = await import('pg')
    return pg
  } catch (cause) {
    const text = `Feed: identities in PostgreSQL need the package 'pg': ${describeError(cause)}`
    throw new ManyhostError('MANYHOST_UNSUPPORTED', text, { cause })
  }
}

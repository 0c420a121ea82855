/** Identities from PostgreSQL: the original's table `auth_keys`. The package `pg` is loaded when this is used. */
import type { Pool } from 'pg'
import { loadPg } from '../../store/load-pg.ts'
import type { IdentitySource } from '../rights.ts'
import { type IdentityRow, parseIdentityRow } from './sqlite.ts'

export interface FeedPostgresOptions {
  /** Milliseconds that one query may take. @default 5000 */
  readonly timeout?: number
  /** Most connections to the database. @default 4 */
  readonly connections?: number
}

const FIND_IDENTITY =
  'select identifier, secret, pubchans, subchans from auth_keys where identifier = $1 limit 1'

interface AuthKeyRow extends Omit<IdentityRow, 'ident' | 'owner'> {
  readonly identifier: string
}

/**
 * `postgresql://...`, or `database+postgresql://...` as the original writes it. Reads the database at each connection: a
 * change holds from the next connection on.
 */
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
      const pg = await loadPg('the feed with identities in PostgreSQL', 'MANYHOST_UNSUPPORTED')
      pool = new pg.Pool({
        connectionString: url.replace(/^database\+/, ''),
        max: connections,
        connectionTimeoutMillis: timeout,
        query_timeout: timeout,
      })
      // An error of an idle connection would end the process if nobody listened.
      pool.on('error', onError)
    },
    async close() {
      const ending = pool?.end()
      pool = undefined
      await ending
    },
  }
}

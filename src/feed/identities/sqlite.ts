/** Identities from the original's SQLite database: table `authkeys`, lists of channels as JSON. */
import type Database from 'libsql'
import { ManyhostError } from '../../core/errors.ts'
import { databaseWords } from '../../store/database-words.ts'
import type { IdentitySource } from '../rights.ts'
import { parseIdentityEntry } from './memory.ts'

export interface IdentityRow {
  readonly owner: string | null
  readonly ident: string
  readonly secret: string
  readonly pubchans: ChannelsColumn
  readonly subchans: ChannelsColumn
}

/** JSON text; a database that knows JSON, or arrays, has read it already. */
type ChannelsColumn = string | readonly string[] | null

/** As the original makes it, so that both can use the same file. */
const CREATE_TABLE = `create table if not exists authkeys (id integer primary key autoincrement,
  owner TEXT, ident TEXT, secret TEXT, pubchans TEXT, subchans TEXT)`
const FIND_IDENTITY =
  'select owner, ident, secret, pubchans, subchans from authkeys where ident = ? limit 1'

/**
 * Reads the database at each connection: a change holds from the next connection on. The table is made where there is none.
 * libsql is loaded when this is used.
 */
export function fromSqlite(path: string): IdentitySource {
  let database: Database.Database | undefined
  let query: Database.Statement | undefined
  return {
    find(ident) {
      if (!query) throw new Error('the database is not open')
      const row = query.get(ident) as IdentityRow | undefined
      return row && parseIdentityRow(path, ident, row)
    },
    async start() {
      try {
        const { openSqliteFile } = await import('../../store/sqlite-file.ts')
        // The original reads the same file, so the file keeps its rights and its journal mode.
        database = openSqliteFile(path, { isPrivate: false, ownTable: 'authkeys' })
        database.exec(CREATE_TABLE)
        query = database.prepare(FIND_IDENTITY)
      } catch (cause) {
        database?.close()
        database = undefined
        const text = `Feed: identities: ${path}: ${databaseWords(cause)}`
        throw new ManyhostError('MANYHOST_INVALID_OPTION', text, { cause })
      }
    },
    close() {
      query = undefined
      database?.close()
      database = undefined
    },
  }
}

/** @throws Error for a row that cannot be read; it never shows the secret */
export function parseIdentityRow(
  where: string,
  ident: string,
  row: IdentityRow,
): ReturnType<typeof parseIdentityEntry> {
  const { owner, secret, pubchans, subchans } = row
  return parseIdentityEntry(where, ident, {
    secret,
    owner,
    publish: parseChannelsColumn(pubchans),
    subscribe: parseChannelsColumn(subchans),
  })
}

function parseChannelsColumn(channels: ChannelsColumn): unknown {
  return typeof channels === 'string' ? JSON.parse(channels) : channels
}

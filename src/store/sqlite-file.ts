/**
 * Opens a SQLite database through libsql. Whoever uses it loads this file when it is needed, since libsql brings a binary.
 *
 * What differs between the users stays with them: journal mode, locking, waiting for locks, and the code of their errors.
 */
import Database from 'libsql'
import { createPrivateFile } from '../core/private-files.ts'
import { describeForeignTables, SQLITE_TABLES_CONDITION } from './foreign-tables.ts'

export interface SqliteFileOptions {
  /** Makes the file, and the folders it is in, for this user alone, where they do not exist. */
  readonly isPrivate: boolean
  /**
   * A table that a database of this user has. A database that has tables, but not this one, is another program's.
   * @default the user checks it himself
   */
  readonly ownTable?: string
}

/** @throws Error of libsql; or one that says that the database is another program's */
export function openSqliteFile(
  path: string,
  { isPrivate, ownTable }: SqliteFileOptions,
): Database.Database {
  if (isPrivate && path !== ':memory:') {
    try {
      createPrivateFile(path)
    } catch {
      // libsql says below why the file cannot be made.
    }
  }
  const database = new Database(path)
  try {
    if (ownTable !== undefined) requireOwnTables(database, ownTable)
    return database
  } catch (error) {
    database.close()
    throw error
  }
}

function requireOwnTables(database: Database.Database, ownTable: string): void {
  const rows = database
    .prepare(`SELECT m.name AS name FROM sqlite_master AS m WHERE ${SQLITE_TABLES_CONDITION}`)
    .all() as { name: string }[]
  const tables = rows.map(({ name }) => name)
  if (tables.length > 0 && !tables.includes(ownTable))
    throw new Error(describeForeignTables(tables))
}

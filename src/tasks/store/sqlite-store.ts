/** A store on SQLite, in the thread that calls. */
import { existsSync } from 'node:fs'
import { ManyhostError } from '../../core/errors.ts'
import { openSqliteTasks, type SqliteTasksOptions } from './sqlite-tasks.ts'
import { createDatabaseStore, type Store } from './store.ts'

export interface SqliteStoreOptions extends SqliteTasksOptions {
  /** Whether partitions are read with the store. */
  readonly partitions: boolean
}

export async function openSqliteStore(path: string, options: SqliteStoreOptions): Promise<Store> {
  if (!options.create && path !== ':memory:' && !existsSync(path)) {
    throw new ManyhostError('MANYHOST_STORE_FAILED', `there is no store at ${path}`)
  }
  return createDatabaseStore(await openSqliteTasks(path, options), '', options.partitions)
}

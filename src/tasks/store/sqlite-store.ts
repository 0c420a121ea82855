/** A store on SQLite, in the thread that calls. */
import { existsSync } from 'node:fs'
import { asError, ManyhostError } from '../../core/errors.ts'
import { migrateStore } from './schema.ts'
import { SqliteEngine, type SqliteEngineOptions } from './sqlite.ts'
import { DatabaseStore } from './store.ts'

export interface SqliteStoreOptions extends SqliteEngineOptions {
  /** Whether they are read with the store. */
  readonly partitions: boolean
}

export async function openSqliteStore(
  path: string,
  options: SqliteStoreOptions,
): Promise<DatabaseStore> {
  if (!options.create && path !== ':memory:' && !existsSync(path)) {
    throw new ManyhostError('MANYHOST_STORE_FAILED', `there is no store at ${path}`)
  }
  const engine = await SqliteEngine.open(path, options)
  try {
    await migrateStore(engine)
    return new DatabaseStore(engine, '', options.partitions)
  } catch (error) {
    await engine.close()
    throw asError(error)
  }
}

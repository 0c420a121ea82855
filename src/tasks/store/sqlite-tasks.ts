/** A SQLite database with the tables of tasks: a store, or one of its partitions. */
import { asError } from '../../core/errors.ts'
import { readSchemaVersion } from '../../store/migrations.ts'
import { SqliteEngine, type SqliteEngineOptions } from '../../store/sqlite-engine.ts'
import { TASK_COLUMNS } from '../model/task-columns.ts'
import { migrateStore, TASK_SCHEMA } from './schema.ts'

export type SqliteTasksOptions = Omit<SqliteEngineOptions, 'columns' | 'readVersion'>

/** Opens it, and brings its tables to this program's version. */
export async function openSqliteTasks(
  path: string,
  { busyTimeout, synchronous, create }: SqliteTasksOptions,
): Promise<SqliteEngine> {
  const engine = await SqliteEngine.open(path, {
    busyTimeout,
    synchronous,
    create,
    columns: TASK_COLUMNS,
    readVersion: (opened) => readSchemaVersion(opened, opened, TASK_SCHEMA),
  })
  try {
    await migrateStore(engine)
    return engine
  } catch (error) {
    await engine.close()
    throw asError(error)
  }
}

/** A store on SQLite, in the thread that calls. */
import { existsSync } from 'node:fs'
import { asError, ManyhostError } from '../../core/errors.ts'
import { migrate } from './schema.ts'
import { SqliteEngine, type SqliteOptions } from './sqlite.ts'
import { EngineStore } from './store.ts'

export interface FileOptions extends SqliteOptions {
  /** Whether they are read with the store. */
  readonly partitions: boolean
}

export async function openFile(path: string, options: FileOptions): Promise<EngineStore> {
  if (!options.create && path !== ':memory:' && !existsSync(path)) {
    throw new ManyhostError('MANYHOST_STORE_FAILED', `there is no store at ${path}`)
  }
  const engine = await SqliteEngine.open(path, options)
  try {
    await migrate(engine)
    return new EngineStore(engine, '', options.partitions)
  } catch (error) {
    await engine.close()
    throw asError(error)
  }
}

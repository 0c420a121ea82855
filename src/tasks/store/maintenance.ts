/** Upkeep of a store: rotation, space, copies. */
import { ManyhostError } from '../../core/errors.ts'
import { createPrivateFile } from '../../core/private-files.ts'
import { createQuery, type DatabaseEngine } from '../../store/engine.ts'
import { partitionPath } from './partitions.ts'
import { listAllParts, type StoreContext } from './store-context.ts'

export function rotateStore({
  partitions,
}: StoreContext): Promise<{ moved: number; partition: number }> {
  return partitions.rotate()
}

export async function vacuumStore({ engine }: StoreContext): Promise<void> {
  await engine.script(engine.dialect.vacuum('task'))
  if (engine.kind === 'sqlite') await engine.all(createQuery('PRAGMA wal_checkpoint(TRUNCATE)'))
}

export async function backUpStore(
  { engine, partitions }: StoreContext,
  path: string,
): Promise<void> {
  if (engine.kind === 'postgres') {
    throw new ManyhostError(
      'MANYHOST_UNSUPPORTED',
      'backup: manyhost copies SQLite only; use pg_dump for a PostgreSQL',
    )
  }
  await copyDatabase(engine, path)
  for (const [index, part] of (await partitions.openAll()).entries()) {
    await copyDatabase(part.engine, partitionPath(path, index + 1))
  }
}

/** The copy has all command lines, so it is as private as the store. SQLite copies into an empty file that exists. */
async function copyDatabase(engine: DatabaseEngine, path: string): Promise<void> {
  createPrivateFile(path)
  await engine.all(createQuery('VACUUM INTO ?', path))
}

export async function truncateStore(context: StoreContext): Promise<number> {
  let count = 0
  for (const { engine, db } of await listAllParts(context)) {
    count += await engine.transaction(async (statements) => {
      const removed = await statements.run(db.deleteFrom('task').compile())
      await statements.run(
        db.deleteFrom('client').where('disconnected_at', 'is not', null).compile(),
      )
      await statements.run(db.deleteFrom('server').where('ended_at', 'is not', null).compile())
      return removed
    })
  }
  return count
}

export function runStatement(
  { engine }: StoreContext,
  sql: string,
  ...parameters: unknown[]
): Promise<Record<string, unknown>[]> {
  return engine.all(createQuery(sql, ...parameters))
}

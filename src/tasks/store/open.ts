/** Opens stores, and knows the default place of a store. */
import { homedir } from 'node:os'
import { join } from 'node:path'
import { asError, ManyhostError } from '../../core/errors.ts'
import { oneOf, type ParsedOptions, parseOptions, rule, text, whole } from '../../core/options.ts'
import { excludeFromChildren } from '../../posix/environment.ts'
import { PostgresEngine, redactPassword } from '../../store/postgres-engine.ts'
import { migrateStore } from './schema.ts'
import { createDatabaseStore, type Store } from './store.ts'
import { openThreadedStore } from './threaded-store.ts'

const booleanRule = rule<boolean>('true or false', true, (value) =>
  typeof value === 'boolean' ? value : undefined,
)

const STORE_RULES = {
  busyTimeout: whole(1, 5_000),
  synchronous: oneOf(['normal', 'full'], 'normal'),
  connections: whole(2, 4),
  schema: text('a name of a-z, 0-9 and _, up to 40', (name) =>
    /^[a-z_][a-z0-9_]{0,39}$/.test(name),
  ),
  create: booleanRule,
  partitions: booleanRule,
}

export interface StoreOptions {
  /** Milliseconds to wait for a lock that another program holds. @default 5000 */
  busyTimeout?: number
  /** SQLite: with `full` nothing that was acknowledged is lost in a power cut; with `normal` nothing in a crash of the program. @default 'normal' */
  synchronous?: 'normal' | 'full'
  /** PostgreSQL: most connections, from 2 up. One of them listens. @default 4 */
  connections?: number
  /** PostgreSQL: the schema that has the tables. @default 'manyhost' */
  schema?: string
  /** Whether a store is made where there is none. @default true */
  create?: boolean
  /** Whether partitions, which have older finished tasks, are read with the store. @default true */
  partitions?: boolean
}

/** `~/.manyhost/tasks.db`, or `manyhost/tasks.db` in `XDG_DATA_HOME` where that is set. */
export function defaultStorePath(environment: NodeJS.ProcessEnv = process.env): string {
  const data = environment.XDG_DATA_HOME
  return data ? join(data, 'manyhost', 'tasks.db') : join(homedir(), '.manyhost', 'tasks.db')
}

/**
 * Opens a store: a path (SQLite), `:memory:`, or a `postgres://` URL. A store that does not exist is made. A store of an older
 * version is migrated to this one.
 * @throws ManyhostError MANYHOST_STORE_VERSION where it is of a newer version, or no store;
 * MANYHOST_STORE_FAILED, MANYHOST_STORE_BUSY, MANYHOST_STORE_FULL where the database says so
 */
export async function openStore(where: string, options: StoreOptions = {}): Promise<Store> {
  const parsed = parseOptions('openStore', options, STORE_RULES)
  const schema = parsed.schema ?? 'manyhost'
  const isPostgres = /^postgres(ql)?:/i.test(where)
  if (!isPostgres && /^[a-z]+:\/\//i.test(where)) {
    throw new ManyhostError(
      'MANYHOST_INVALID_OPTION',
      `a store must be a path, ':memory:' or a postgres:// URL, got ${where.slice(0, where.indexOf(':') + 3)}...`,
    )
  }
  return isPostgres
    ? openPostgres(where, { ...parsed, schema })
    : openThreadedStore({ path: where, options: parsed })
}

async function openPostgres(
  where: string,
  options: ParsedOptions<typeof STORE_RULES> & { readonly schema: string },
): Promise<Store> {
  // PGPASSWORD stays hidden from tasks if it is the password of the store. Any other PGPASSWORD is meant for the tasks.
  if (isPasswordOf(where, process.env.PGPASSWORD)) excludeFromChildren('PGPASSWORD')
  const engine = await PostgresEngine.open(where, options)
  try {
    await migrateStore(engine, options.schema, options.create)
    return createDatabaseStore(engine, options.schema, options.partitions)
  } catch (error) {
    await engine.close()
    throw asError(error)
  }
}

/** Whether this is the password of the store: its address has no password, or this one. */
function isPasswordOf(where: string, password: string | undefined): boolean {
  if (!password || !URL.canParse(where)) return false
  const own = new URL(where).password
  return own === '' || own === encodeURIComponent(password) || own === password
}

/** The name of a store for logs: without a password. */
export function storeName(where: string): string {
  return /^postgres(ql)?:/i.test(where) ? redactPassword(where) : where
}

/** How a store is opened, and where it is when nobody says so. */
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
  /** Milliseconds to try for a lock that another program holds. @default 5000 */
  busyTimeout?: number
  /** SQLite: `full` survives a power cut with all that was acknowledged, `normal` a crash of the program. @default 'normal' */
  synchronous?: 'normal' | 'full'
  /** PostgreSQL: connections at most; one listens. From 2 up. @default 4 */
  connections?: number
  /** PostgreSQL: the schema that has the tables. @default 'manyhost' */
  schema?: string
  /** Whether a store that is not there is made. @default true */
  create?: boolean
  /** Whether partitions, where tasks that are over were moved to, are read with the store. @default true */
  partitions?: boolean
}

/** `~/.manyhost/tasks.db`, or `manyhost/tasks.db` in `XDG_DATA_HOME` where that is set. */
export function defaultStorePath(environment: NodeJS.ProcessEnv = process.env): string {
  const data = environment.XDG_DATA_HOME
  return data ? join(data, 'manyhost', 'tasks.db') : join(homedir(), '.manyhost', 'tasks.db')
}

/**
 * Opens a store: a path (SQLite), `:memory:`, or a `postgres://` URL. What is not there is made; what is of an older
 * version is brought to this one.
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
      `a store is a path, ':memory:' or a postgres:// URL, got ${where.slice(0, where.indexOf(':') + 3)}...`,
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
  // The password of the store is then no business of the tasks: else PGPASSWORD is theirs.
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

/** Whether a variable's password is that of the store: its address names none, or this one. */
function isPasswordOf(where: string, password: string | undefined): boolean {
  if (!password || !URL.canParse(where)) return false
  const own = new URL(where).password
  return own === '' || own === encodeURIComponent(password) || own === password
}

/** The name of a store, fit for logs. */
export function storeName(where: string): string {
  return /^postgres(ql)?:/i.test(where) ? redactPassword(where) : where
}

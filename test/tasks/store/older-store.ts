/** Makes a store of this version one of version 2 or 1, as older programs left it. Nothing must be written to it before it is opened. */
import type { Store } from '../../../src/tasks/store/store.ts'

const KEY = '("group", attempt, state, shard)'

/** @param place what its tables are called by, with a dot: another schema, or a file that is attached */
export async function makeOlder(store: Store, version: 1 | 2, place = ''): Promise<void> {
  const isSqlite = store.kind === 'sqlite'
  const index = (name: string, columns: string): string =>
    isSqlite
      ? `CREATE INDEX ${place}${name} ON task ${columns}`
      : `CREATE INDEX ${name} ON ${place}task ${columns}`
  const failed = `("group", attempt, (CASE WHEN request IS NULL THEN 'shell' ELSE 'request' END), completion_time, seq)`
  const triggers = ['count_added', 'count_removed', 'count_changed'].map((name) =>
    isSqlite ? `DROP TRIGGER ${place}${name}` : `DROP TRIGGER ${name} ON ${place}task`,
  )
  const counts = isSqlite
    ? [
        `CREATE TABLE ${place}counted ("group" BIGINT NOT NULL, attempt BIGINT NOT NULL, state TEXT NOT NULL,
          shard BIGINT NOT NULL, n BIGINT NOT NULL, PRIMARY KEY ${KEY}) WITHOUT ROWID`,
        `INSERT INTO ${place}counted SELECT "group", attempt, state, shard, sum(n) FROM ${place}task_count GROUP BY 1, 2, 3, 4`,
        `DROP TABLE ${place}task_count`,
        `ALTER TABLE ${place}counted RENAME TO task_count`,
      ]
    : [
        `ALTER TABLE ${place}task_count DROP CONSTRAINT task_count_pkey`,
        `ALTER TABLE ${place}task_count DROP COLUMN batch`,
        `ALTER TABLE ${place}task_count ADD PRIMARY KEY ${KEY}`,
      ]
  const columns = ['batch', 'cwd', 'template', 'shell', 'env', 'attempts', 'captured']
  const statements = [
    ...['task_new', 'task_cancelled', 'task_failed'].map((name) => `DROP INDEX ${place}${name}`),
    index('task_failed', `${failed} WHERE state = 'failed'`),
    ...triggers,
    ...counts,
    ...columns.map((name) => `ALTER TABLE ${place}task DROP COLUMN ${name}`),
    `ALTER TABLE ${place}server DROP COLUMN batch`,
    `ALTER TABLE ${place}server DROP COLUMN is_open`,
    ...(version === 1
      ? [
          `DROP INDEX ${place}task_group`,
          index('task_group', '("group", state, seq)'),
          `DROP INDEX ${place}task_failed`,
          index('task_failed', `("group", attempt, completion_time, seq) WHERE state = 'failed'`),
        ]
      : []),
    `UPDATE ${place}meta SET value = ${version} WHERE name = 'version'`,
  ]
  for (const sql of statements) await store.statement(sql)
}

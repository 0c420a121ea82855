/**
 * The tables of a store, and the migrations that make them. Triggers keep the counts, so that no statement, not even one by
 * hand, can make them wrong. Each index has only the rows that queries look for in it, so that ten million finished tasks do
 * not slow down the next claim.
 */

import { type EngineKind, SQL_DIALECTS } from '../../store/dialect.ts'
import type { DatabaseEngine } from '../../store/engine.ts'
import { migrate, type StoreSchema } from '../../store/migrations.ts'
import { TASK_COLUMNS } from '../model/task-columns.ts'
import { STATE_OR_KIND_SQL, sqlTypeOf, TASK_KIND_SQL } from './tables.ts'

const REQUIRED_COLUMNS: ReadonlySet<string> = new Set([
  'id',
  'group',
  'args',
  'submit_id',
  'submit_time',
  'submit_host',
  'attempt',
  'retried',
  'tag',
  'fence',
])

const STATE_SQL = `CASE
    WHEN completion_time IS NULL THEN CASE WHEN schedule_time IS NULL THEN 'new' ELSE 'scheduled' END
    WHEN retried = 1 THEN 'retried'
    WHEN exit_status = 0 THEN 'succeeded'
    WHEN exit_status = -1 THEN 'cancelled'
    ELSE 'failed' END`

function createTables(kind: EngineKind): string {
  const { rowNumber, generated, withoutRowid } = SQL_DIALECTS[kind]
  const columns = TASK_COLUMNS.slice(1, TASK_COLUMNS.indexOf('batch')).map(
    (name) => `"${name}" ${sqlTypeOf(name)}${REQUIRED_COLUMNS.has(name) ? ' NOT NULL' : ''}`,
  )
  return `
CREATE TABLE task (seq ${rowNumber}, ${columns.join(', ')},
  state TEXT GENERATED ALWAYS AS (${STATE_SQL}) ${generated});
CREATE UNIQUE INDEX task_id ON task (id);
CREATE UNIQUE INDEX task_previous ON task (previous_id) WHERE previous_id IS NOT NULL;
CREATE INDEX task_group ON task ("group", state, seq);
CREATE INDEX task_state ON task (state, seq);
CREATE INDEX task_scheduled ON task (server_id, client_id, seq) WHERE state = 'scheduled';
CREATE INDEX task_failed ON task ("group", attempt, completion_time, seq) WHERE state = 'failed';
CREATE INDEX task_completed ON task (completion_time, seq) WHERE completion_time IS NOT NULL;
CREATE TABLE task_tag (key TEXT NOT NULL, value TEXT NOT NULL, seq BIGINT NOT NULL,
  PRIMARY KEY (key, value, seq))${withoutRowid};
CREATE TABLE task_count ("group" BIGINT NOT NULL, attempt BIGINT NOT NULL, state TEXT NOT NULL,
  shard BIGINT NOT NULL, n BIGINT NOT NULL, PRIMARY KEY ("group", attempt, state, shard))${withoutRowid};
CREATE TABLE server (id TEXT PRIMARY KEY, host TEXT NOT NULL, started_at BIGINT NOT NULL,
  heartbeat_at BIGINT NOT NULL, ended_at BIGINT, evicted BIGINT NOT NULL)${withoutRowid};
CREATE INDEX server_live ON server (heartbeat_at) WHERE ended_at IS NULL;
CREATE TABLE client (id TEXT PRIMARY KEY, host TEXT NOT NULL, server_id TEXT NOT NULL, server_host TEXT NOT NULL,
  connected_at BIGINT NOT NULL, disconnected_at BIGINT, evicted BIGINT NOT NULL)${withoutRowid};
CREATE INDEX client_live ON client (server_id, id) WHERE disconnected_at IS NULL;
${kind === 'sqlite' ? createSqliteTags() : createPostgresTags()}
`
}

/** Each kind of task gets an index order of its own: a claim of one kind does not read tasks of the other. */
function addKindIndexes(): string {
  return `
DROP INDEX task_group;
CREATE INDEX task_group ON task ("group", (${STATE_OR_KIND_SQL}), seq);
DROP INDEX task_failed;
CREATE INDEX task_failed ON task ("group", attempt, (${TASK_KIND_SQL}), completion_time, seq) WHERE state = 'failed';`
}

/**
 * A task is stored as it will be run, and belongs to the batch it was added with. Each batch has new tasks, failures and
 * counts of its own. Cancelled tasks that no server has reported yet have an index, too.
 */
function addBatches(kind: EngineKind): string {
  const added = ['batch', 'cwd', 'template', 'shell', 'env', 'attempts', 'captured'] as const
  const columns = added.map((name) => {
    const rest = name === 'batch' ? " NOT NULL DEFAULT ''" : ''
    return `ALTER TABLE task ADD COLUMN "${name}" ${sqlTypeOf(name)}${rest};`
  })
  return `
${columns.join('\n')}
ALTER TABLE server ADD COLUMN batch TEXT NOT NULL DEFAULT '';
ALTER TABLE server ADD COLUMN is_open BIGINT NOT NULL DEFAULT 1;
DROP INDEX task_failed;
CREATE INDEX task_failed ON task (batch, "group", attempt, (${TASK_KIND_SQL}), completion_time, seq) WHERE state = 'failed';
CREATE INDEX task_new ON task (batch, "group", (${TASK_KIND_SQL}), seq) WHERE state = 'new';
CREATE INDEX task_cancelled ON task (batch, completion_time, seq) WHERE state = 'cancelled' AND server_id IS NULL;
${kind === 'sqlite' ? createSqliteCounts() : createPostgresCounts()}`
}

function createSqliteCounts(): string {
  const count = (row: 'new' | 'old', by: number): string =>
    `INSERT INTO task_count VALUES (${row}.batch, ${row}."group", ${row}.attempt, ${row}.state, 0, ${by})
      ON CONFLICT DO UPDATE SET n = n + ${by};`
  return `
DROP TRIGGER IF EXISTS count_added;
DROP TRIGGER IF EXISTS count_removed;
DROP TRIGGER IF EXISTS count_changed;
ALTER TABLE task_count RENAME TO task_count_before;
CREATE TABLE task_count (batch TEXT NOT NULL, "group" BIGINT NOT NULL, attempt BIGINT NOT NULL, state TEXT NOT NULL,
  shard BIGINT NOT NULL, n BIGINT NOT NULL, PRIMARY KEY (batch, "group", attempt, state, shard)) WITHOUT ROWID;
INSERT INTO task_count SELECT '', "group", attempt, state, shard, n FROM task_count_before;
DROP TABLE task_count_before;
CREATE TRIGGER count_added AFTER INSERT ON task BEGIN ${count('new', 1)} END;
CREATE TRIGGER count_removed AFTER DELETE ON task BEGIN ${count('old', -1)} END;
CREATE TRIGGER count_changed
  AFTER UPDATE OF batch, "group", attempt, schedule_time, completion_time, exit_status, retried ON task
  WHEN new.batch <> old.batch OR new."group" <> old."group" OR new.attempt <> old.attempt OR new.state <> old.state
  BEGIN ${count('old', -1)} ${count('new', 1)} END;`
}

function createSqliteTags(): string {
  const tags = `INSERT INTO task_tag SELECT key, new.tag -> fullkey, new.seq FROM json_each(new.tag);`
  const untag = `DELETE FROM task_tag WHERE seq = old.seq
    AND (key, value) IN (SELECT key, old.tag -> fullkey FROM json_each(old.tag));`
  return `
CREATE TRIGGER tag_added AFTER INSERT ON task WHEN new.tag <> '{}' BEGIN ${tags} END;
CREATE TRIGGER tag_changed AFTER UPDATE OF tag ON task BEGIN ${untag} ${tags} END;
CREATE TRIGGER tag_removed AFTER DELETE ON task WHEN old.tag <> '{}' BEGIN ${untag} END;`
}

/** Counts once per statement. Each connection counts into a shard of its own, so that servers do not wait for each other. */
function createPostgresCounts(): string {
  const counting = (name: string, event: string, referencing: string, rows: string): string => `
DROP TRIGGER IF EXISTS ${name} ON task;
CREATE OR REPLACE FUNCTION ${name}() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$ BEGIN
  INSERT INTO task_count (batch, "group", attempt, state, shard, n)
    SELECT batch, "group", attempt, state, pg_backend_pid() % 1024, sum(d) FROM (${rows}) AS r
    GROUP BY 1, 2, 3, 4 HAVING sum(d) <> 0 ORDER BY 1, 2, 3, 4
    ON CONFLICT (batch, "group", attempt, state, shard) DO UPDATE SET n = task_count.n + excluded.n;
  RETURN NULL; END $$;
CREATE TRIGGER ${name} AFTER ${event} ON task REFERENCING ${referencing}
  FOR EACH STATEMENT EXECUTE FUNCTION ${name}();`
  const plus = 'SELECT batch, "group", attempt, state, 1 AS d FROM fresh'
  const minus = 'SELECT batch, "group", attempt, state, -1 AS d FROM gone'
  return `
ALTER TABLE task_count ADD COLUMN batch TEXT NOT NULL DEFAULT '';
ALTER TABLE task_count DROP CONSTRAINT task_count_pkey;
ALTER TABLE task_count ADD PRIMARY KEY (batch, "group", attempt, state, shard);
${counting('count_added', 'INSERT', 'NEW TABLE AS fresh', plus)}
${counting('count_removed', 'DELETE', 'OLD TABLE AS gone', minus)}
${counting('count_changed', 'UPDATE', 'NEW TABLE AS fresh OLD TABLE AS gone', `${plus} UNION ALL ${minus}`)}`
}

function createPostgresTags(): string {
  return `
CREATE FUNCTION tag() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$ BEGIN
  IF TG_OP <> 'INSERT' THEN DELETE FROM task_tag t USING json_each(OLD.tag::json) e
    WHERE t.key = e.key AND t.value = e.value::text AND t.seq = OLD.seq; END IF;
  IF TG_OP <> 'DELETE' THEN
    INSERT INTO task_tag SELECT key, value::text, NEW.seq FROM json_each(NEW.tag::json); END IF;
  RETURN NULL; END $$;
CREATE TRIGGER tag_added AFTER INSERT ON task FOR EACH ROW WHEN (NEW.tag <> '{}') EXECUTE FUNCTION tag();
CREATE TRIGGER tag_changed AFTER UPDATE OF tag ON task FOR EACH ROW EXECUTE FUNCTION tag();
CREATE TRIGGER tag_removed AFTER DELETE ON task FOR EACH ROW WHEN (OLD.tag <> '{}') EXECUTE FUNCTION tag();
ALTER TABLE task SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);`
}

/** The tables of a store of tasks. Columns and indexes are only ever added by a new migration. */
export const TASK_SCHEMA: StoreSchema = {
  migrations: [createTables, addKindIndexes, addBatches],
  identifyingColumns: {
    meta: ['name', 'value'],
    task: ['seq', 'id', 'args', 'submit_id', 'fence'],
    task_count: ['group', 'attempt', 'state', 'shard', 'n'],
  },
  initialMeta: { refused: 0 },
}

/** The version of the tables that this program reads and writes. */
export const STORE_VERSION = TASK_SCHEMA.migrations.length

/**
 * Brings a store to this program's version: all steps, or none.
 * @param create whether a store is made where there is none
 * @throws ManyhostError MANYHOST_STORE_VERSION for a newer store, or another program's tables
 */
export function migrateStore(
  engine: DatabaseEngine,
  schema?: string,
  create = true,
): Promise<void> {
  return migrate(engine, TASK_SCHEMA, schema, create)
}

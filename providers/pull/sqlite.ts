/**
 * Services and jobs in a file of SQLite, through libsql. What is written within a millisecond is one transaction: a sync
 * to the disk costs the same for one job as for a hundred ("group commit"; Gawlick and Kinkade, 1985).
 */
import type Database from 'libsql'
import { ManyhostError } from '../../src/core/errors.ts'
import { after } from '../../src/core/time.ts'
import { databaseWords } from '../../src/store/database-words.ts'
import { PreparedCache } from '../../src/store/prepared-cache.ts'
import { openSqliteFile } from '../../src/store/sqlite-file.ts'
import type { JobPage, JobRow, JobRowState, JobStore, ServiceRow } from './job-store.ts'

/** Of the tables below: a file with another one was made by another manyhost. */
const SCHEMA_VERSION = 1

const TABLES = `
create table if not exists services (
  id text primary key, name text not null, description text not null, timeout real not null, available integer,
  checked_in integer not null, registration text not null, result text not null, token text
) without rowid;
create table if not exists jobs (
  seq integer primary key, id text not null unique, service text not null,
  submitted integer not null, parameters text not null, status text not null, results text, reason text, worker text,
  lease text, attempts integer not null
);
create index if not exists jobs_of_service on jobs(service, seq);
create index if not exists open_jobs on jobs(seq) where status in ('REGISTERED', 'WORKING');
pragma user_version = ${SCHEMA_VERSION};
`

interface PendingWrite {
  readonly run: () => void
  readonly resolve: () => void
  readonly reject: (error: ManyhostError) => void
}

export class SqliteJobStore implements JobStore {
  readonly #path: string
  readonly #db: Database.Database
  readonly #statements: PreparedCache
  #pendingWrites: PendingWrite[] = []
  #isClosed = false

  /**
   * The file is made if there is none, for its owner alone. One process at a time may have it open.
   * @throws ManyhostError MANYHOST_INVALID_OPTION
   */
  constructor(path: string) {
    this.#path = path
    try {
      this.#db = openSqliteFile(path, { isPrivate: true, ownTable: 'jobs' })
      this.#statements = new PreparedCache(this.#db)
      this.#prepareFile()
    } catch (error) {
      throw new ManyhostError(
        'MANYHOST_INVALID_OPTION',
        `pull: store ${path} cannot be opened: ${databaseWords(error)}`,
        { cause: error },
      )
    }
  }

  #prepareFile(): void {
    const db = this.#db
    db.exec('pragma journal_mode = wal')
    db.exec('pragma synchronous = full')
    // Leases and queues are in memory: two hubs at one file would each give out the same jobs. In this order, and with a
    // write, which takes the lock; the other way round it could not be given back (see `close`).
    db.prepare('pragma user_version').all()
    db.exec('pragma locking_mode = exclusive')
    db.exec('begin immediate; commit')
    const [{ version }] = db
      .prepare('select user_version as version from pragma_user_version')
      .all() as [{ version: number }]
    if (version !== 0 && version !== SCHEMA_VERSION) throw new Error(`it is of version ${version}`)
    db.exec(TABLES)
  }

  services(): ServiceRow[] {
    const rows = this.#statements.get('select * from services order by id').all() as Record<
      string,
      unknown
    >[]
    return rows.map((row) => ({
      id: row.id as string,
      name: row.name as string,
      description: row.description as string,
      timeout: row.timeout as number,
      available: row.available === null ? undefined : row.available === 1,
      checkedIn: row.checked_in as number,
      registration: row.registration as string,
      result: row.result as string,
      token: (row.token as string | null) ?? undefined,
    }))
  }

  openJobs(): ReturnType<JobStore['openJobs']> {
    const rows = this.#statements
      .get(
        `select id, service, seq, submitted, status, results, reason, worker, lease, attempts from jobs
       where status in ('REGISTERED', 'WORKING') order by seq`,
      )
      .all()
    return (rows as Record<string, unknown>[]).map(toJobRow)
  }

  lastSeq(): number {
    const [row] = this.#statements.get('select max(seq) as seq from jobs').all() as [
      { seq: number | null },
    ]
    return row.seq ?? 0
  }

  job(id: string): JobRow | undefined {
    // Not `get`: that leaves the statement open at its row, and with it the file locked after `close`.
    const [row] = this.#statements.get('select * from jobs where id = ?').all(id)
    return row ? toJobRow(row as Record<string, unknown>) : undefined
  }

  jobs({ service, after: seq, limit }: JobPage): JobRow[] {
    const columns = 'select id, seq, service, submitted, status from jobs where'
    const rows =
      service === undefined
        ? this.#statements.get(`${columns} seq > ? order by seq limit ?`).all(seq, limit)
        : this.#statements
            .get(`${columns} service = ? and seq > ? order by seq limit ?`)
            .all(service, seq, limit)
    return (rows as Record<string, unknown>[]).map(toJobRow)
  }

  putService(row: ServiceRow): Promise<void> {
    const { available, token } = row
    return this.#write(() =>
      this.#statements
        .get(`insert into services values (?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict (id) do update set
         name = excluded.name, description = excluded.description, timeout = excluded.timeout,
         available = excluded.available, checked_in = excluded.checked_in,
         registration = excluded.registration, result = excluded.result, token = excluded.token`)
        .run(
          row.id,
          row.name,
          row.description,
          row.timeout,
          available === undefined ? null : Number(available),
          row.checkedIn,
          row.registration,
          row.result,
          token ?? null,
        ),
    )
  }

  addJob(row: JobRow): Promise<void> {
    return this.#write(() =>
      this.#statements
        .get(
          `insert into jobs (seq, id, service, submitted, parameters, status, attempts)
         values (?, ?, ?, ?, ?, ?, ?)`,
        )
        .run(row.seq, row.id, row.service, row.submitted, row.parameters, row.status, row.attempts),
    )
  }

  setJob(id: string, state: JobRowState): Promise<void> {
    // As it is now: until it is written, it may change again.
    const { status, results, reason, worker, lease, attempts } = state
    return this.#write(() =>
      this.#statements
        .get(
          `update jobs set status = ?, results = ?, reason = ?, worker = ?, lease = ?, attempts = ?
         where id = ?`,
        )
        .run(status, results ?? null, reason ?? null, worker ?? null, lease ?? null, attempts, id),
    )
  }

  prune(service: string, keep: number): Promise<void> {
    return this.#write(() =>
      this.#statements
        .get(
          `delete from jobs where service = ? and status in ('COMPLETED', 'ERROR') and seq <= (
           select seq from jobs where service = ? and status in ('COMPLETED', 'ERROR')
           order by seq desc limit 1 offset ?)`,
        )
        .run(service, service, keep),
    )
  }

  /** What waits is written first. */
  close(): void {
    if (this.#isClosed) return
    this.#flush()
    this.#isClosed = true
    // The library holds the file until its statements are collected as garbage; the lock is not to wait for that.
    this.#db.exec('pragma journal_mode = delete')
    this.#db.exec('pragma locking_mode = normal')
    this.#db.exec('begin immediate; commit')
    this.#statements.clear()
    this.#db.close()
  }

  #write(run: () => void): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#isClosed) return reject(this.#failure(new Error('it is closed')))
      if (this.#pendingWrites.length === 0) after(0, () => this.#flush())
      this.#pendingWrites.push({ run, resolve, reject })
    })
  }

  #flush(): void {
    const writes = this.#pendingWrites
    if (writes.length === 0) return
    this.#pendingWrites = []
    try {
      this.#db.exec('begin immediate')
      for (const { run } of writes) run()
      this.#db.exec('commit')
    } catch (error) {
      // All of them: nothing of a transaction is kept that has failed.
      if (this.#db.inTransaction) this.#db.exec('rollback')
      for (const { reject } of writes) reject(this.#failure(error))
      return
    }
    for (const { resolve } of writes) resolve()
  }

  #failure(error: unknown): ManyhostError {
    const text = `pull: store ${this.#path}: ${databaseWords(error)}`
    return new ManyhostError('MANYHOST_STORE_FAILED', text, { cause: error })
  }
}

function toJobRow(row: Record<string, unknown>): JobRow {
  const text = (name: string): string | undefined => (row[name] as string | null) ?? undefined
  return {
    id: row.id as string,
    service: row.service as string,
    seq: row.seq as number,
    submitted: row.submitted as number,
    parameters: text('parameters') ?? 'null',
    status: row.status as JobRow['status'],
    results: text('results'),
    reason: text('reason'),
    worker: text('worker'),
    lease: text('lease'),
    attempts: (row.attempts as number | undefined) ?? 0,
  }
}

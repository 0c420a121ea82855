/** Where services and jobs are kept: the interface, and the store that is in memory. */
import type { JOB_STATUSES } from './job-limits.ts'

export type JobStatus = (typeof JOB_STATUSES)[number]

export interface ServiceRow {
  readonly id: string
  name: string
  description: string
  /** Milliseconds. */
  timeout: number
  /** What the last PATCH has said; undefined before the first one. */
  available: boolean | undefined
  /** Milliseconds since 1970. */
  checkedIn: number
  /** JSON text of the schema of parameters. */
  readonly registration: string
  /** JSON text of the schema of results. */
  readonly result: string
  /** SHA-256 of the service's own token, in hex. */
  readonly token: string | undefined
}

export interface JobRow {
  readonly id: string
  readonly service: string
  /** The order in which jobs were submitted, over all services. */
  readonly seq: number
  /** Milliseconds since 1970. */
  readonly submitted: number
  /** JSON text. */
  readonly parameters: string
  status: JobStatus
  /** JSON text. */
  results: string | undefined
  /** Why the job ended as `ERROR`. */
  reason: string | undefined
  /** Name of the worker that has claimed the job. */
  worker: string | undefined
  /** Names its latest claim. */
  lease: string | undefined
  /** How often the job was claimed. */
  attempts: number
}

/** The part of a row that changes during the life of a job. */
export type JobRowState = Pick<
  JobRow,
  'status' | 'results' | 'reason' | 'worker' | 'lease' | 'attempts'
>

export interface JobPage {
  readonly service?: string
  /** Only jobs with a higher `seq`. */
  readonly after: number
  readonly limit: number
}

/** Reads are synchronous. A write is kept when its promise resolves, and has no effect when it rejects. */
export interface JobStore {
  services(): ServiceRow[]
  /** Jobs that have not ended, the oldest first. */
  openJobs(): Omit<JobRow, 'parameters'>[]
  /** The highest `seq` so far, 0 for none. */
  lastSeq(): number
  job(id: string): JobRow | undefined
  /** The oldest first. */
  jobs(page: JobPage): Pick<JobRow, 'id' | 'seq' | 'service' | 'submitted' | 'status'>[]
  putService(row: ServiceRow): Promise<void>
  addJob(row: JobRow): Promise<void>
  setJob(id: string, state: JobRowState): Promise<void>
  /** Removes the ended jobs of the service, except the newest `keep`. */
  prune(service: string, keep: number): Promise<void>
  close(): void
}

const ENDED_STATUSES: ReadonlySet<JobStatus> = new Set(['COMPLETED', 'ERROR'])

export function isEndedStatus(status: JobStatus): boolean {
  return ENDED_STATUSES.has(status)
}

export class MemoryJobStore implements JobStore {
  readonly #services = new Map<string, ServiceRow>()
  /** In the order of `seq`. */
  readonly #jobs = new Map<string, JobRow>()
  #lastSeq = 0

  services(): ServiceRow[] {
    return [...this.#services.values()]
  }

  openJobs(): JobRow[] {
    return [...this.#jobs.values()].filter(({ status }) => !isEndedStatus(status))
  }

  lastSeq(): number {
    return this.#lastSeq
  }

  job(id: string): JobRow | undefined {
    const row = this.#jobs.get(id)
    return row && { ...row }
  }

  jobs({ service, after, limit }: JobPage): JobRow[] {
    const page: JobRow[] = []
    for (const row of this.#jobs.values()) {
      if (row.seq <= after || (service !== undefined && row.service !== service)) continue
      if (page.push(row) >= limit) break
    }
    return page
  }

  async putService(row: ServiceRow): Promise<void> {
    this.#services.set(row.id, { ...row })
  }

  async addJob(row: JobRow): Promise<void> {
    this.#jobs.set(row.id, { ...row })
    this.#lastSeq = row.seq
  }

  async setJob(id: string, state: JobRowState): Promise<void> {
    const row = this.#jobs.get(id)
    if (row) Object.assign(row, state)
  }

  async prune(service: string, keep: number): Promise<void> {
    const ended = [...this.#jobs.values()].filter(
      (row) => row.service === service && isEndedStatus(row.status),
    )
    for (const { id } of ended.slice(0, Math.max(0, ended.length - keep))) this.#jobs.delete(id)
  }

  close(): void {}
}

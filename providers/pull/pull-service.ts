/** One service of the API: its schemas, its line of jobs, and the workers that are there for it. */
import { afterSilence, afterUnref, now, type Timer, wallClock } from '../../src/core/time.ts'
import { JobQueue } from './job-queue.ts'
import type { JobStatus, ServiceRow } from './job-store.ts'
import { createRefusal } from './json.ts'
import type { OpenJob, WorkerRecord } from './open-job.ts'
import { createServiceSchema, type ServiceSchema } from './schema-checks.ts'

/** What is counted, for metrics. */
export interface PullCounts {
  submitted: number
  claimed: number
  expired: number
  late: number
  lost: number
  ended: Record<Extract<JobStatus, 'COMPLETED' | 'ERROR'> | 'CANCELLED', number>
}

export interface PullServiceLimits {
  readonly maxWorkers: number
  /** How much longer than its timeout a worker may be silent, in ms. */
  readonly slack: number
}

export class PullService {
  row: ServiceRow
  readonly queue = new JobQueue()
  readonly workers = new Map<string, WorkerRecord>()
  /** Those that wait for a job, the longest first. */
  readonly waiters = new Set<(job: OpenJob | undefined) => void>()
  /** Those that want a worker for an instance. */
  readonly waitingStarts = new Set<() => void>()
  /** Jobs that have not ended. */
  numOpenJobs = 0
  readonly counts: PullCounts = {
    submitted: 0,
    claimed: 0,
    expired: 0,
    late: 0,
    lost: 0,
    ended: { COMPLETED: 0, ERROR: 0, CANCELLED: 0 },
  }
  readonly #limits: PullServiceLimits
  readonly #onLost: (seat: WorkerRecord, silent: number) => void
  #checkedInAt: number
  #registration: ServiceSchema | undefined
  #result: ServiceSchema | undefined

  constructor(
    row: ServiceRow,
    limits: PullServiceLimits,
    onLost: (seat: WorkerRecord, silent: number) => void,
  ) {
    this.row = row
    // From here on by a clock that nobody sets.
    this.#checkedInAt = now() - Math.max(0, wallClock() - row.checkedIn)
    this.#limits = limits
    this.#onLost = onLost
  }

  get registrationSchema(): ServiceSchema {
    const { id, registration } = this.row
    this.#registration ??= createServiceSchema(id, 'job_registration_schema', registration)
    return this.#registration
  }

  get resultSchema(): ServiceSchema {
    const { id, result } = this.row
    this.#result ??= createServiceSchema(id, 'job_result_schema', result)
    return this.#result
  }

  /** Is declared anew. */
  redefine(row: Omit<ServiceRow, 'checkedIn' | 'available'>): void {
    this.row = { ...this.row, ...row }
    this.#registration = undefined
    this.#result = undefined
  }

  /** Somebody says that it is there. */
  checkIn(): void {
    this.row.checkedIn = wallClock()
    this.#checkedInAt = now()
  }

  /** Milliseconds since anybody said so. */
  get silenceMs(): number {
    return now() - this.#checkedInAt
  }

  countLate(): void {
    this.counts.late++
  }

  /** Said to be unavailable, which a new service is not: nobody has said anything of it yet. */
  get isUnavailable(): boolean {
    return this.row.available === false
  }

  /** A worker has been heard of. @throws Refusal 503 when there are too many */
  recordWorker(name: string): WorkerRecord {
    const known = this.workers.get(name)
    if (known) {
      known.lastSeenAt = now()
      return known
    }
    const { maxWorkers } = this.#limits
    if (this.workers.size >= maxWorkers) {
      const detail = `service ${this.row.id} has ${maxWorkers} workers already`
      throw createRefusal(503, 'Too Many Workers', detail, { 'retry-after': '10' })
    }
    const seat: WorkerRecord = {
      name,
      lastSeenAt: now(),
      numWaitingPolls: 0,
      silenceTimer: undefined,
      jobs: new Set(),
      instance: undefined,
    }
    this.workers.set(name, seat)
    this.#watchWorker(seat)
    this.notifyStarts()
    return seat
  }

  /** One timer a worker, which looks again when it finds that it was too early. */
  #watchWorker(seat: WorkerRecord): void {
    const patience = this.row.timeout + this.#limits.slack
    const left = seat.lastSeenAt + patience - now()
    seat.silenceTimer = afterSilence(Math.max(1, left), () => {
      if (seat.numWaitingPolls > 0) seat.lastSeenAt = now()
      const silent = now() - seat.lastSeenAt
      if (silent < this.row.timeout + this.#limits.slack) this.#watchWorker(seat)
      else this.#onLost(seat, silent)
    })
  }

  /** Its timeout is another one from now on. */
  rewatchWorkers(): void {
    for (const seat of this.workers.values()) {
      seat.silenceTimer?.clear()
      this.#watchWorker(seat)
    }
  }

  /** A worker that could be an instance and is none. */
  findFreeWorker(): WorkerRecord | undefined {
    for (const seat of this.workers.values()) if (!seat.instance) return seat
    return undefined
  }

  /** Whoever waits for a worker looks again. */
  notifyStarts(): void {
    for (const starter of [...this.waitingStarts]) starter()
  }

  removeWorker(seat: WorkerRecord): void {
    seat.silenceTimer?.clear()
    if (this.workers.get(seat.name) === seat) this.workers.delete(seat.name)
  }

  /** Resolves with the job that comes, or with none: after `ms`, or when `signal` is aborted. */
  waitForJob(ms: number, signal: AbortSignal): Promise<OpenJob | undefined> {
    return new Promise((resolve) => {
      let timer: Timer | undefined
      const settle = (job: OpenJob | undefined): void => {
        this.waiters.delete(settle)
        timer?.clear()
        signal.removeEventListener('abort', give)
        resolve(job)
      }
      const give = (): void => settle(undefined)
      if (signal.aborted) return give()
      timer = afterUnref(ms, give)
      signal.addEventListener('abort', give, { once: true })
      this.waiters.add(settle)
    })
  }
}

/** One service of the API: its schemas, its queue of jobs, and the workers that were heard of within its timeout. */
import { deferred } from '../../src/core/deferred.ts'
import { afterSilence, afterUnref, now, type Timer, wallClock } from '../../src/core/time.ts'
import { JobQueue } from './job-queue.ts'
import type { ServiceRow } from './job-store.ts'
import { createRefusal } from './json.ts'
import type { JobService, OpenJob, PullCounts, WorkerRecord } from './open-job.ts'
import { createServiceSchema, type ServiceSchema } from './schema-checks.ts'

export interface PullServiceLimits {
  readonly maxWorkers: number
  /** Milliseconds that a worker may be silent beyond the timeout of its service. */
  readonly slack: number
}

export class PullService implements JobService {
  row: ServiceRow
  readonly queue = new JobQueue<OpenJob>()
  /** By name. */
  readonly workers = new Map<string, WorkerRecord>()
  readonly waiters = new Set<(job: OpenJob | undefined) => void>()
  /** Starts of instances that wait for a worker. Each is called when there may be one. */
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
  readonly #onLost: (worker: WorkerRecord, silenceMs: number) => void
  #checkedInAt: number
  #registration: ServiceSchema | undefined
  #result: ServiceSchema | undefined

  /** @param onLost called when a worker was silent for too long */
  constructor(
    row: ServiceRow,
    limits: PullServiceLimits,
    onLost: (worker: WorkerRecord, silenceMs: number) => void,
  ) {
    this.row = row
    // The row has the time of day. From here on the age is measured by a clock that nobody can set.
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

  /** Takes over what the options say of the service, in place of what the store has. */
  redefine(row: Omit<ServiceRow, 'checkedIn' | 'available'>): void {
    this.row = { ...this.row, ...row }
    this.#registration = undefined
    this.#result = undefined
  }

  /** A worker, or a client, has said that the service is alive. */
  checkIn(): void {
    this.row.checkedIn = wallClock()
    this.#checkedInAt = now()
  }

  /** Milliseconds since the last check-in. */
  get silenceMs(): number {
    return now() - this.#checkedInAt
  }

  countLate(): void {
    this.counts.late++
  }

  /** Whether a client has said that the service is not available. A new service is open, until somebody says so. */
  get isUnavailable(): boolean {
    return this.row.available === false
  }

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
    const worker: WorkerRecord = {
      name,
      lastSeenAt: now(),
      numWaitingPolls: 0,
      silenceTimer: undefined,
      jobs: new Set(),
      instance: undefined,
    }
    this.workers.set(name, worker)
    this.#watchWorker(worker)
    this.notifyStarts()
    return worker
  }

  /** One timer for each worker. It is not restarted with each sign of life: when it fires, it looks how long to go on. */
  #watchWorker(worker: WorkerRecord): void {
    const timeLeft = worker.lastSeenAt + this.#maxSilenceMs - now()
    worker.silenceTimer = afterSilence(Math.max(1, timeLeft), () => {
      if (worker.numWaitingPolls > 0) worker.lastSeenAt = now()
      const silenceMs = now() - worker.lastSeenAt
      if (silenceMs < this.#maxSilenceMs) this.#watchWorker(worker)
      else this.#onLost(worker, silenceMs)
    })
  }

  get #maxSilenceMs(): number {
    return this.row.timeout + this.#limits.slack
  }

  /** The timeout of the service has changed. */
  rewatchWorkers(): void {
    for (const worker of this.workers.values()) {
      worker.silenceTimer?.clear()
      this.#watchWorker(worker)
    }
  }

  /** A worker that is no instance of the cluster. */
  findFreeWorker(): WorkerRecord | undefined {
    for (const worker of this.workers.values()) if (!worker.instance) return worker
    return undefined
  }

  /** There may be a free worker: starts that wait for one look again. */
  notifyStarts(): void {
    for (const look of [...this.waitingStarts]) look()
  }

  removeWorker(worker: WorkerRecord): void {
    worker.silenceTimer?.clear()
    if (this.workers.get(worker.name) === worker) this.workers.delete(worker.name)
  }

  /** Resolves with the next job, or with `undefined` after `ms` ms, or when `signal` is aborted. */
  waitForJob(ms: number, signal: AbortSignal): Promise<OpenJob | undefined> {
    if (signal.aborted) return Promise.resolve(undefined)
    const { promise, resolve } = deferred<OpenJob | undefined>()
    const settle = (job: OpenJob | undefined): void => {
      this.waiters.delete(settle)
      timer.clear()
      signal.removeEventListener('abort', giveUp)
      resolve(job)
    }
    const giveUp = (): void => settle(undefined)
    const timer: Timer = afterUnref(ms, giveUp)
    signal.addEventListener('abort', giveUp, { once: true })
    this.waiters.add(settle)
    return promise
  }
}

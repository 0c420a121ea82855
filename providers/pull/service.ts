/** One service of the API: its schemas, its line of jobs, and the workers that are there for it. */
import { afterIdly, afterSilence, now, type Timer, wallClock } from '../../src/core/time.ts'
import type { Job, Seat } from './job.ts'
import { refuse } from './json.ts'
import { JobLine } from './line.ts'
import { type ServiceSchema, serviceSchema } from './schema-checks.ts'
import type { JobStatus, ServiceRow } from './store.ts'

/** What is counted, for metrics. */
export interface Counts {
  submitted: number
  claimed: number
  expired: number
  late: number
  lost: number
  ended: Record<Extract<JobStatus, 'COMPLETED' | 'ERROR'> | 'CANCELLED', number>
}

export interface ServiceLimits {
  readonly maxWorkers: number
  /** How much longer than its timeout a worker may be silent, in ms. */
  readonly slack: number
}

export class Service {
  row: ServiceRow
  readonly line = new JobLine()
  readonly seats = new Map<string, Seat>()
  /** Those that wait for a job, the longest first. */
  readonly waiters = new Set<(job: Job | undefined) => void>()
  /** Those that want a worker for an instance. */
  readonly starters = new Set<() => void>()
  /** Jobs that have not ended. */
  open = 0
  readonly counts: Counts = {
    submitted: 0,
    claimed: 0,
    expired: 0,
    late: 0,
    lost: 0,
    ended: { COMPLETED: 0, ERROR: 0, CANCELLED: 0 },
  }
  readonly #limits: ServiceLimits
  readonly #onLost: (seat: Seat, silent: number) => void
  #heardAt: number
  #registration: ServiceSchema | undefined
  #result: ServiceSchema | undefined

  constructor(
    row: ServiceRow,
    limits: ServiceLimits,
    onLost: (seat: Seat, silent: number) => void,
  ) {
    this.row = row
    // From here on by a clock that nobody sets.
    this.#heardAt = now() - Math.max(0, wallClock() - row.checkedIn)
    this.#limits = limits
    this.#onLost = onLost
  }

  get registration(): ServiceSchema {
    const { id, registration } = this.row
    this.#registration ??= serviceSchema(id, 'job_registration_schema', registration)
    return this.#registration
  }

  get result(): ServiceSchema {
    const { id, result } = this.row
    this.#result ??= serviceSchema(id, 'job_result_schema', result)
    return this.#result
  }

  /** Is declared anew. */
  become(row: Omit<ServiceRow, 'checkedIn' | 'available'>): void {
    this.row = { ...this.row, ...row }
    this.#registration = undefined
    this.#result = undefined
  }

  /** Somebody says that it is there. */
  checkIn(): void {
    this.row.checkedIn = wallClock()
    this.#heardAt = now()
  }

  /** Milliseconds since anybody said so. */
  get silence(): number {
    return now() - this.#heardAt
  }

  noteLate(): void {
    this.counts.late++
  }

  /** Said to be unavailable, which a new service is not: nobody has said anything of it yet. */
  get isShut(): boolean {
    return this.row.available === false
  }

  /** A worker has been heard of. @throws Refusal 503 when there are too many */
  see(name: string): Seat {
    const known = this.seats.get(name)
    if (known) {
      known.seenAt = now()
      return known
    }
    const { maxWorkers } = this.#limits
    if (this.seats.size >= maxWorkers) {
      const detail = `service ${this.row.id} has ${maxWorkers} workers already`
      throw refuse(503, 'Too Many Workers', detail, { 'retry-after': '10' })
    }
    const seat: Seat = {
      name,
      seenAt: now(),
      parked: 0,
      timer: undefined,
      jobs: new Set(),
      place: undefined,
    }
    this.seats.set(name, seat)
    this.#watch(seat)
    this.wake()
    return seat
  }

  /** One timer a worker, which looks again when it finds that it was too early. */
  #watch(seat: Seat): void {
    const patience = this.row.timeout + this.#limits.slack
    const left = seat.seenAt + patience - now()
    seat.timer = afterSilence(Math.max(1, left), () => {
      if (seat.parked > 0) seat.seenAt = now()
      const silent = now() - seat.seenAt
      if (silent < this.row.timeout + this.#limits.slack) this.#watch(seat)
      else this.#onLost(seat, silent)
    })
  }

  /** Its timeout is another one from now on. */
  rewatch(): void {
    for (const seat of this.seats.values()) {
      seat.timer?.clear()
      this.#watch(seat)
    }
  }

  /** A worker that could be an instance and is none. */
  freeSeat(): Seat | undefined {
    for (const seat of this.seats.values()) if (!seat.place) return seat
    return undefined
  }

  /** Whoever waits for a worker looks again. */
  wake(): void {
    for (const starter of [...this.starters]) starter()
  }

  forget(seat: Seat): void {
    seat.timer?.clear()
    if (this.seats.get(seat.name) === seat) this.seats.delete(seat.name)
  }

  /** Resolves with the job that comes, or with none: after `ms`, or when `signal` is aborted. */
  wait(ms: number, signal: AbortSignal): Promise<Job | undefined> {
    return new Promise((resolve) => {
      let timer: Timer | undefined
      const settle = (job: Job | undefined): void => {
        this.waiters.delete(settle)
        timer?.clear()
        signal.removeEventListener('abort', give)
        resolve(job)
      }
      const give = (): void => settle(undefined)
      if (signal.aborted) return give()
      timer = afterIdly(ms, give)
      signal.addEventListener('abort', give, { once: true })
      this.waiters.add(settle)
    })
  }
}

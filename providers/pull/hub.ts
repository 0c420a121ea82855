/** Services, and their jobs from the first to the last day. What is answered is in the store. */
import { randomUUID } from 'node:crypto'
import { ManyhostError } from '../../src/core/errors.ts'
import { wallClock } from '../../src/core/time.ts'
import type { Call } from './call.ts'
import { type ClaimLimits, Claims, conflict } from './claims.ts'
import type { Caller, Job, Seat } from './job.ts'
import { refuse } from './json.ts'
import { Service, type ServiceLimits } from './service.ts'
import { isEnded, type JobRow, type JobStore, type ServiceRow } from './store.ts'

export interface HubLimits extends ServiceLimits, ClaimLimits {
  readonly maxJobs: number
  readonly maxServices: number
  readonly keep: number
}

export interface Outcome {
  readonly status: 'COMPLETED' | 'ERROR'
  /** JSON text that the schema of the service has accepted. */
  readonly results: string | undefined
  readonly reason: string | undefined
  /** By whom it ends without a result: then it needs no claim. */
  readonly isCancelled?: boolean
}

/** Requests whose late results are still known to be late, and not unheard of. */
const REMEMBERED = 10_000
/** Jobs that end between two looks for those that are too many. */
const PRUNE_EACH = 100

export class Hub {
  readonly services = new Map<string, Service>()
  readonly limits: HubLimits
  readonly store: JobStore
  readonly claims: Claims
  /** Jobs that have not ended, those of requests included. */
  readonly #open = new Map<string, Job>()
  readonly #overCalls = new Set<string>()
  #seq: number
  #ended = 0
  #isClosed = false

  constructor(store: JobStore, limits: HubLimits) {
    this.store = store
    this.limits = limits
    this.claims = new Claims(store, limits, (job, reason) => {
      void this.#end(job, { status: 'ERROR', results: undefined, reason }).catch(ignore)
    })
    this.#seq = store.lastSeq()
    for (const row of store.services()) this.#addService(row)
    for (const row of store.openJobs()) this.#resume(row)
  }

  /** A job that was there when the process before this one ended. Its worker may still have it. */
  #resume(row: Omit<JobRow, 'parameters'>): void {
    const service = this.services.get(row.service)
    if (!service) return
    const job = this.#open_(service, row)
    job.status = row.status
    job.attempts = row.attempts
    job.results = row.results
    job.lease = row.lease
    if (row.status === 'WORKING') this.claims.hold(job, service.see(row.worker ?? ''))
    else service.line.add(job)
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  #addService(row: ServiceRow): Service {
    const service = new Service(row, this.limits, (seat, silent) =>
      this.#lose(service, seat, silent),
    )
    this.services.set(row.id, service)
    return service
  }

  /** @throws Refusal 503 */
  async register(given: Omit<ServiceRow, 'checkedIn' | 'available'>): Promise<Service> {
    const { maxServices } = this.limits
    if (this.services.size >= maxServices) {
      throw refuse(503, 'Too Many Services', `there are ${maxServices} services already`)
    }
    const row: ServiceRow = { ...given, available: undefined, checkedIn: wallClock() }
    await this.store.putService(row)
    return this.services.get(row.id) ?? this.#addService(row)
  }

  /** It has changed, and that is to be kept. */
  async saveService(service: Service, before: Partial<ServiceRow>): Promise<void> {
    try {
      await this.store.putService(service.row)
    } catch (error) {
      Object.assign(service.row, before)
      throw error
    }
    service.rewatch()
    this.claims.serve(service)
    service.wake()
  }

  /** The parameters have been checked. @throws Refusal 503 */
  async submit(service: Service, parameters: string): Promise<Job> {
    if (service.isShut) {
      const detail = `service ${service.row.id} has said that it is not available`
      throw refuse(503, 'Service Unavailable', detail, { 'retry-after': '30' })
    }
    if (service.open >= this.limits.maxJobs) {
      const detail = `${service.open} jobs of service ${service.row.id} wait already`
      throw refuse(503, 'Queue Full', detail, { 'retry-after': '10' })
    }
    service.open++
    const submitted = wallClock()
    const row = { id: randomUUID(), seq: ++this.#seq, service: service.row.id, submitted }
    try {
      await this.store.addJob({
        ...row,
        ...NEW,
        parameters,
      })
    } catch (error) {
      service.open--
      throw error
    }
    service.open--
    const job = this.#open_(service, row)
    service.counts.submitted++
    service.line.add(job)
    this.claims.serve(service)
    return job
  }

  /** A request to the virtual URL has become a job. */
  enter(service: Service, make: (over: () => void) => Call): void {
    const call = make(() => this.#dropCall(job))
    const row = { id: randomUUID(), seq: ++this.#seq, submitted: wallClock() }
    const job = this.#open_(service, row, call)
    service.counts.submitted++
    call.place.enter(call)
    service.line.add(job)
    this.claims.serve(service)
  }

  #open_(
    service: Service,
    { id, seq, submitted }: Pick<JobRow, 'id' | 'seq' | 'submitted'>,
    call?: Call,
  ): Job {
    const job: Job = {
      id,
      seq,
      service,
      submitted,
      status: 'REGISTERED',
      waits: false,
      seat: undefined,
      lease: undefined,
      results: undefined,
      attempts: 0,
      timer: undefined,
      isSettling: false,
      call,
    }
    this.#open.set(id, job)
    service.open++
    return job
  }

  job(id: string): Job | undefined {
    return this.#open.get(id)
  }

  /** Whether it was a request's, and has ended with it. */
  isOver(id: string): boolean {
    return this.#overCalls.has(id)
  }

  /**
   * A worker's result, or the word that it failed. One that was never claimed is claimed by it.
   * @throws Refusal 409 when the claim is not the caller's any more
   */
  async finish(job: Job, outcome: Outcome, caller: Caller): Promise<void> {
    if (job.waits && !caller.lease) await this.claims.claimOne(job, caller.worker)
    this.claims.mustHold(job, caller)
    job.service.see(caller.worker)
    await this.#end(job, outcome)
  }

  /** @throws Refusal 409 */
  async cancel(job: Job, reason: string): Promise<void> {
    if (job.isSettling) throw conflict(job, 'it is being ended')
    await this.#end(job, { status: 'ERROR', results: undefined, reason, isCancelled: true })
  }

  async #end(job: Job, { status, results, reason, isCancelled }: Outcome): Promise<void> {
    const { service, call } = job
    if (call) {
      service.counts.ended[isCancelled ? 'CANCELLED' : status]++
      call.answer(...answerTo(status, results ?? job.results, reason))
      return
    }
    const wasWaiting = job.waits
    job.isSettling = true
    service.line.remove(job)
    try {
      const { lease, attempts, seat } = job
      await this.store.setJob(job.id, {
        status,
        results: results ?? job.results,
        reason,
        worker: seat?.name,
        lease,
        attempts,
      })
    } catch (error) {
      job.isSettling = false
      if (wasWaiting) service.line.add(job)
      throw error
    }
    job.status = status
    service.counts.ended[isCancelled ? 'CANCELLED' : status]++
    this.#forget(job)
    if (++this.#ended % PRUNE_EACH === 0) {
      for (const id of this.services.keys())
        void this.store.prune(id, this.limits.keep).catch(ignore)
    }
  }

  #forget(job: Job): void {
    job.service.line.remove(job)
    this.claims.letGo(job)
    if (this.#open.delete(job.id)) job.service.open--
  }

  #dropCall(job: Job): void {
    if (!isEnded(job.status)) job.status = 'ERROR'
    this.#forget(job)
    job.call?.place.leave(job.call)
    this.#overCalls.add(job.id)
    if (this.#overCalls.size <= REMEMBERED) return
    this.#overCalls.delete(this.#overCalls.values().next().value as string)
  }

  #lose(service: Service, seat: Seat, silent: number): void {
    const why = `worker ${seat.name} was silent for ${Math.round(silent)} ms`
    service.forget(seat)
    service.counts.lost++
    const { place } = seat
    seat.place = undefined
    place?.lost(why)
    for (const job of [...seat.jobs]) this.claims.release(job, why)
  }

  /** Whoever waits is sent away; jobs stay in the store. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.claims.close()
    for (const service of this.services.values()) {
      for (const waiter of [...service.waiters]) waiter(undefined)
      for (const seat of service.seats.values()) {
        seat.timer?.clear()
        for (const job of seat.jobs) job.timer?.clear()
        seat.place?.lost('the provider is closed')
      }
    }
    for (const job of [...this.#open.values()]) {
      job.call?.fail(new ManyhostError('MANYHOST_SESSION_CLOSED', 'pull: the provider is closed'))
    }
    this.store.close()
  }
}

const NEW = {
  status: 'REGISTERED',
  results: undefined,
  reason: undefined,
  worker: undefined,
  lease: undefined,
  attempts: 0,
} as const

function ignore(): void {}

/** What the caller of the virtual URL gets. */
function answerTo(
  status: Outcome['status'],
  results: string | undefined,
  reason: string | undefined,
): [number, string, Record<string, string>] {
  const headers = { 'content-type': 'application/json' }
  if (status === 'COMPLETED') return [200, results ?? 'null', headers]
  const detail = reason ?? 'the worker gave no reason'
  const errors = [{ title: 'Job Failed', detail, status_code: 500 }]
  const data = results === undefined ? null : JSON.parse(results)
  return [500, JSON.stringify({ errors, data }), headers]
}

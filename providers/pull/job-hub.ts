/** Services, and their jobs from the first to the last day. What is answered is in the store. */
import { randomUUID } from 'node:crypto'
import { ManyhostError } from '../../src/core/errors.ts'
import { wallClock } from '../../src/core/time.ts'
import { createConflict, type JobClaimLimits, JobClaims } from './claims.ts'
import { isEndedStatus, type JobRow, type JobStore, type ServiceRow } from './job-store.ts'
import { createRefusal } from './json.ts'
import type { OpenJob, WorkerIdentity, WorkerRecord } from './open-job.ts'
import { PullService, type PullServiceLimits } from './pull-service.ts'
import type { PulledRequest } from './pulled-request.ts'

export interface JobHubLimits extends PullServiceLimits, JobClaimLimits {
  readonly maxJobs: number
  readonly maxServices: number
  readonly keep: number
}

export interface JobOutcome {
  readonly status: 'COMPLETED' | 'ERROR'
  /** JSON text that the schema of the service has accepted. */
  readonly results: string | undefined
  readonly reason: string | undefined
  /** By whom it ends without a result: then it needs no claim. */
  readonly isCancelled?: boolean
}

/** Requests whose late results are still known to be late, and not unheard of. */
const MAX_ENDED_REQUESTS = 10_000
/** Jobs that end between two looks for those that are too many. */
const JOBS_PER_PRUNE = 100

export class JobHub {
  readonly services = new Map<string, PullService>()
  readonly limits: JobHubLimits
  readonly store: JobStore
  readonly claims: JobClaims
  /** Jobs that have not ended, those of requests included. */
  readonly #openJobs = new Map<string, OpenJob>()
  readonly #endedRequests = new Set<string>()
  #lastSeq: number
  #numEnded = 0
  #isClosed = false

  constructor(store: JobStore, limits: JobHubLimits) {
    this.store = store
    this.limits = limits
    this.claims = new JobClaims(store, limits, (job, reason) => {
      void this.#endJob(job, { status: 'ERROR', results: undefined, reason }).catch(ignore)
    })
    this.#lastSeq = store.lastSeq()
    for (const row of store.services()) this.#addService(row)
    for (const row of store.openJobs()) this.#restoreJob(row)
  }

  /** A job that was there when the process before this one ended. Its worker may still have it. */
  #restoreJob(row: Omit<JobRow, 'parameters'>): void {
    const service = this.services.get(row.service)
    if (!service) return
    const job = this.#createJob(service, row)
    job.status = row.status
    job.attempts = row.attempts
    job.results = row.results
    job.lease = row.lease
    if (row.status === 'WORKING') this.claims.assignJob(job, service.recordWorker(row.worker ?? ''))
    else service.queue.add(job)
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  #addService(row: ServiceRow): PullService {
    const service = new PullService(row, this.limits, (seat, silent) =>
      this.#onWorkerLost(service, seat, silent),
    )
    this.services.set(row.id, service)
    return service
  }

  /** @throws Refusal 503 */
  async registerService(given: Omit<ServiceRow, 'checkedIn' | 'available'>): Promise<PullService> {
    const { maxServices } = this.limits
    if (this.services.size >= maxServices) {
      throw createRefusal(503, 'Too Many Services', `there are ${maxServices} services already`)
    }
    const row: ServiceRow = { ...given, available: undefined, checkedIn: wallClock() }
    await this.store.putService(row)
    return this.services.get(row.id) ?? this.#addService(row)
  }

  /** It has changed, and that is to be kept. */
  async saveService(service: PullService, before: Partial<ServiceRow>): Promise<void> {
    try {
      await this.store.putService(service.row)
    } catch (error) {
      Object.assign(service.row, before)
      throw error
    }
    service.rewatchWorkers()
    this.claims.assignWaitingJobs(service)
    service.notifyStarts()
  }

  /** The parameters have been checked. @throws Refusal 503 */
  async submitJob(service: PullService, parameters: string): Promise<OpenJob> {
    if (service.isUnavailable) {
      const detail = `service ${service.row.id} has said that it is not available`
      throw createRefusal(503, 'Service Unavailable', detail, { 'retry-after': '30' })
    }
    if (service.numOpenJobs >= this.limits.maxJobs) {
      const detail = `${service.numOpenJobs} jobs of service ${service.row.id} wait already`
      throw createRefusal(503, 'Queue Full', detail, { 'retry-after': '10' })
    }
    service.numOpenJobs++
    const submitted = wallClock()
    const row = { id: randomUUID(), seq: ++this.#lastSeq, service: service.row.id, submitted }
    try {
      await this.store.addJob({
        ...row,
        ...NEW_JOB_STATE,
        parameters,
      })
    } catch (error) {
      service.numOpenJobs--
      throw error
    }
    service.numOpenJobs--
    const job = this.#createJob(service, row)
    service.counts.submitted++
    service.queue.add(job)
    this.claims.assignWaitingJobs(service)
    return job
  }

  /** A request to the virtual URL has become a job. */
  submitRequest(service: PullService, make: (over: () => void) => PulledRequest): void {
    const call = make(() => this.#removeRequest(job))
    const row = { id: randomUUID(), seq: ++this.#lastSeq, submitted: wallClock() }
    const job = this.#createJob(service, row, call)
    service.counts.submitted++
    call.instance.addRequest(call)
    service.queue.add(job)
    this.claims.assignWaitingJobs(service)
  }

  #createJob(
    service: PullService,
    { id, seq, submitted }: Pick<JobRow, 'id' | 'seq' | 'submitted'>,
    call?: PulledRequest,
  ): OpenJob {
    const job: OpenJob = {
      id,
      seq,
      service,
      submitted,
      status: 'REGISTERED',
      isQueued: false,
      holder: undefined,
      lease: undefined,
      results: undefined,
      attempts: 0,
      leaseTimer: undefined,
      isEnding: false,
      request: call,
    }
    this.#openJobs.set(id, job)
    service.numOpenJobs++
    return job
  }

  findJob(id: string): OpenJob | undefined {
    return this.#openJobs.get(id)
  }

  /** Whether it was a request's, and has ended with it. */
  isEndedRequest(id: string): boolean {
    return this.#endedRequests.has(id)
  }

  /**
   * A worker's result, or the word that it failed. One that was never claimed is claimed by it.
   * @throws Refusal 409 when the claim is not the caller's any more
   */
  async finishJob(job: OpenJob, outcome: JobOutcome, caller: WorkerIdentity): Promise<void> {
    if (job.isQueued && !caller.lease) await this.claims.claimJob(job, caller.worker)
    this.claims.requireHolder(job, caller)
    job.service.recordWorker(caller.worker)
    await this.#endJob(job, outcome)
  }

  /** @throws Refusal 409 */
  async cancelJob(job: OpenJob, reason: string): Promise<void> {
    if (job.isEnding) throw createConflict(job, 'it is being ended')
    await this.#endJob(job, { status: 'ERROR', results: undefined, reason, isCancelled: true })
  }

  async #endJob(job: OpenJob, { status, results, reason, isCancelled }: JobOutcome): Promise<void> {
    const { service, request: call } = job
    if (call) {
      service.counts.ended[isCancelled ? 'CANCELLED' : status]++
      call.respond(...toResponse(status, results ?? job.results, reason))
      return
    }
    const wasWaiting = job.isQueued
    job.isEnding = true
    service.queue.remove(job)
    try {
      const { lease, attempts, holder: seat } = job
      await this.store.setJob(job.id, {
        status,
        results: results ?? job.results,
        reason,
        worker: seat?.name,
        lease,
        attempts,
      })
    } catch (error) {
      job.isEnding = false
      if (wasWaiting) service.queue.add(job)
      throw error
    }
    job.status = status
    service.counts.ended[isCancelled ? 'CANCELLED' : status]++
    this.#removeJob(job)
    if (++this.#numEnded % JOBS_PER_PRUNE === 0) {
      for (const id of this.services.keys())
        void this.store.prune(id, this.limits.keep).catch(ignore)
    }
  }

  #removeJob(job: OpenJob): void {
    job.service.queue.remove(job)
    this.claims.unassignJob(job)
    if (this.#openJobs.delete(job.id)) job.service.numOpenJobs--
  }

  #removeRequest(job: OpenJob): void {
    if (!isEndedStatus(job.status)) job.status = 'ERROR'
    this.#removeJob(job)
    job.request?.instance.removeRequest(job.request)
    this.#endedRequests.add(job.id)
    if (this.#endedRequests.size <= MAX_ENDED_REQUESTS) return
    this.#endedRequests.delete(this.#endedRequests.values().next().value as string)
  }

  #onWorkerLost(service: PullService, seat: WorkerRecord, silent: number): void {
    const why = `worker ${seat.name} was silent for ${Math.round(silent)} ms`
    service.removeWorker(seat)
    service.counts.lost++
    const { instance: place } = seat
    seat.instance = undefined
    place?.onWorkerLost(why)
    for (const job of [...seat.jobs]) this.claims.releaseJob(job, why)
  }

  /** Whoever waits is sent away; jobs stay in the store. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.claims.close()
    for (const service of this.services.values()) {
      for (const waiter of [...service.waiters]) waiter(undefined)
      for (const seat of service.workers.values()) {
        seat.silenceTimer?.clear()
        for (const job of seat.jobs) job.leaseTimer?.clear()
        seat.instance?.onWorkerLost('the provider is closed')
      }
    }
    for (const job of [...this.#openJobs.values()]) {
      job.request?.fail(
        new ManyhostError('MANYHOST_SESSION_CLOSED', 'pull: the provider is closed'),
      )
    }
    this.store.close()
  }
}

const NEW_JOB_STATE = {
  status: 'REGISTERED',
  results: undefined,
  reason: undefined,
  worker: undefined,
  lease: undefined,
  attempts: 0,
} as const

function ignore(): void {}

/** What the caller of the virtual URL gets. */
function toResponse(
  status: JobOutcome['status'],
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

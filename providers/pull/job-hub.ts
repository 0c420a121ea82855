/** The services, and their jobs from submission to end. A change is answered only when it is in the store. */
import { randomUUID } from 'node:crypto'
import { ManyhostError } from '../../src/core/errors.ts'
import { wallClock } from '../../src/core/time.ts'
import { createConflict, type JobClaimLimits, JobClaims } from './claims.ts'
import { isEndedStatus, type JobRow, type JobStore, type ServiceRow } from './job-store.ts'
import { createRefusal } from './json.ts'
import type {
  JobService,
  OpenJob,
  WorkerIdentity,
  WorkerInstance,
  WorkerRecord,
} from './open-job.ts'
import { PullService, type PullServiceLimits } from './pull-service.ts'
import type { PulledRequest } from './pulled-request.ts'

export interface JobHubLimits extends PullServiceLimits, JobClaimLimits {
  /** Jobs of one service that have not ended. */
  readonly maxJobs: number
  readonly maxServices: number
  /** Ended jobs of one service that stay in the store. */
  readonly keep: number
}

export interface JobOutcome {
  readonly status: 'COMPLETED' | 'ERROR'
  /** JSON text that the result schema of the service has accepted. */
  readonly results: string | undefined
  readonly reason: string | undefined
  /** Whether a client has cancelled the job. */
  readonly isCancelled?: boolean
}

/** Ids of ended requests that are remembered, so that a late result is answered as late and not as unknown. */
const MAX_ENDED_REQUESTS = 10_000
/** Jobs that end between two removals of the oldest ended jobs. */
const JOBS_PER_PRUNE = 100

export class JobHub {
  /** By id. */
  readonly services = new Map<string, PullService>()
  readonly limits: JobHubLimits
  readonly store: JobStore
  readonly claims: JobClaims
  /** Jobs that have not ended, by id. Those that stand for requests are among them. */
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

  /** A job that had not ended when an earlier process ended. A worker may still work on it, so its claim is restored. */
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
    const service = new PullService(row, this.limits, (worker, silenceMs) =>
      this.#onWorkerLost(service, worker, silenceMs),
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

  /**
   * Stores the row of a service that was changed.
   * @param before what the row had before the change; it is put back if the store fails
   */
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

  /** @param parameters JSON text that the registration schema has accepted @throws Refusal 503 */
  async submitJob(service: PullService, parameters: string): Promise<OpenJob> {
    if (service.isUnavailable) {
      const detail = `service ${service.row.id} has said that it is not available`
      throw createRefusal(503, 'Service Unavailable', detail, { 'retry-after': '30' })
    }
    if (service.numOpenJobs >= this.limits.maxJobs) {
      const detail = `service ${service.row.id} has ${service.numOpenJobs} jobs that have not ended`
      throw createRefusal(503, 'Queue Full', detail, { 'retry-after': '10' })
    }
    // Counts towards the limit while the job is being stored.
    service.numOpenJobs++
    const submitted = wallClock()
    const row = { id: randomUUID(), seq: ++this.#lastSeq, service: service.row.id, submitted }
    try {
      await this.store.addJob({ ...row, ...NEW_JOB_STATE, parameters })
    } finally {
      service.numOpenJobs--
    }
    const job = this.#createJob(service, row)
    service.counts.submitted++
    service.queue.add(job)
    this.claims.assignWaitingJobs(service)
    return job
  }

  /** Makes a job of a request to a virtual URL. The job is in no store. */
  submitRequest(
    service: PullService,
    instance: WorkerInstance,
    create: (onEnd: () => void) => PulledRequest,
  ): void {
    const request = create(() => this.#removeRequest(job))
    const row = { id: randomUUID(), seq: ++this.#lastSeq, submitted: wallClock() }
    const job = this.#createJob(service, row, request, instance)
    service.counts.submitted++
    instance.addRequest(request)
    service.queue.add(job)
    this.claims.assignWaitingJobs(service)
  }

  #createJob(
    service: JobService,
    { id, seq, submitted }: Pick<JobRow, 'id' | 'seq' | 'submitted'>,
    request?: PulledRequest,
    instance?: WorkerInstance,
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
      request,
      instance,
    }
    this.#openJobs.set(id, job)
    service.numOpenJobs++
    return job
  }

  findJob(id: string): OpenJob | undefined {
    return this.#openJobs.get(id)
  }

  /** Whether the id is that of a job that stood for a request, and has ended with it. */
  isEndedRequest(id: string): boolean {
    return this.#endedRequests.has(id)
  }

  /**
   * A worker reports the end of a job. A job that nobody has claimed is claimed by this report.
   * @throws Refusal 409 when the claim of the caller is over
   */
  async finishJob(job: OpenJob, outcome: JobOutcome, caller: WorkerIdentity): Promise<void> {
    if (job.isQueued && !caller.lease) await this.claims.claimJob(job, caller.worker)
    this.claims.requireHolder(job, caller)
    job.service.recordWorker(caller.worker)
    await this.#endJob(job, outcome)
  }

  /** @throws Refusal 409 */
  async cancelJob(job: OpenJob, reason: string): Promise<void> {
    if (job.isEnding) throw createConflict(job, 'its end is being stored')
    await this.#endJob(job, { status: 'ERROR', results: undefined, reason, isCancelled: true })
  }

  async #endJob(job: OpenJob, { status, results, reason, isCancelled }: JobOutcome): Promise<void> {
    const { service, request } = job
    if (request) {
      service.counts.ended[isCancelled ? 'CANCELLED' : status]++
      // Its `onEnd` removes the job.
      request.respond(...toResponse(status, results ?? job.results, reason))
      return
    }
    const wasQueued = job.isQueued
    job.isEnding = true
    service.queue.remove(job)
    try {
      const { lease, attempts, holder } = job
      await this.store.setJob(job.id, {
        status,
        results: results ?? job.results,
        reason,
        worker: holder?.name,
        lease,
        attempts,
      })
    } catch (error) {
      job.isEnding = false
      if (wasQueued) service.queue.add(job)
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

  /** The request that the job stands for has ended. */
  #removeRequest(job: OpenJob): void {
    if (!isEndedStatus(job.status)) job.status = 'ERROR'
    this.#removeJob(job)
    if (job.request) job.instance?.removeRequest(job.request)
    this.#endedRequests.add(job.id)
    if (this.#endedRequests.size <= MAX_ENDED_REQUESTS) return
    this.#endedRequests.delete(this.#endedRequests.values().next().value as string)
  }

  #onWorkerLost(service: PullService, worker: WorkerRecord, silenceMs: number): void {
    const why = `worker ${worker.name} was silent for ${Math.round(silenceMs)} ms`
    service.removeWorker(worker)
    service.counts.lost++
    const { instance } = worker
    worker.instance = undefined
    instance?.onWorkerLost(why)
    for (const job of [...worker.jobs]) this.claims.releaseJob(job, why)
  }

  /** Answers all long polls, and fails all requests. Jobs stay in the store. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.claims.close()
    for (const service of this.services.values()) {
      for (const waiter of [...service.waiters]) waiter(undefined)
      for (const worker of service.workers.values()) {
        worker.silenceTimer?.clear()
        for (const job of worker.jobs) job.leaseTimer?.clear()
        worker.instance?.onWorkerLost('the provider is closed')
      }
    }
    for (const job of [...this.#openJobs.values()]) {
      job.request?.fail(
        new ManyhostError('MANYHOST_SESSION_CLOSED', 'workers: the provider is closed'),
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

/** The response to the caller of the virtual URL: status, body and header fields. */
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

/**
 * Which worker has claimed which job, and until when. A claim is atomic because the look into the queue and the taking of
 * the job happen in one turn of the event loop. A claim is answered when it is in the store.
 */
import { randomBytes } from 'node:crypto'
import { ManyhostError } from '../../src/core/errors.ts'
import { afterSilence, now } from '../../src/core/time.ts'
import type { JobStore } from './job-store.ts'
import { createRefusal } from './json.ts'
import type { JobService, OpenJob, WorkerIdentity, WorkerRecord } from './open-job.ts'
import { swapInstances } from './pull-instance.ts'
import type { PullService } from './pull-service.ts'

export interface JobClaimLimits {
  /** Milliseconds for which a claim holds without a sign of life of its worker. */
  readonly lease: number
  /** Claims after which a job is given up. */
  readonly maxAttempts: number
  /** Long polls that wait at a time, over all services. */
  readonly maxWaiting: number
}

export interface JobClaim {
  readonly job: OpenJob
  readonly lease: string
  /** JSON text. */
  readonly parameters: string
}

export class JobClaims {
  readonly #store: JobStore
  readonly #limits: JobClaimLimits
  readonly #endExhausted: (job: OpenJob, reason: string) => void
  #numWaiting = 0
  #isClosed = false

  /** @param endExhausted ends a job that was claimed too often */
  constructor(
    store: JobStore,
    limits: JobClaimLimits,
    endExhausted: (job: OpenJob, reason: string) => void,
  ) {
    this.#store = store
    this.#limits = limits
    this.#endExhausted = endExhausted
  }

  /** @param name of the worker that checks in; undefined when a client says that the service is available */
  checkIn(service: PullService, name: string | undefined): void {
    service.checkIn()
    if (name === undefined) return
    const worker = service.recordWorker(name)
    // A name is chosen by one worker for itself. An address may be that of many workers, so it renews no lease.
    if (name.startsWith('@')) return
    for (const job of worker.jobs) this.#restartLease(job)
  }

  /** JSON text. */
  readParameters(job: OpenJob): string {
    return job.request
      ? job.request.input.parameters
      : (this.#store.job(job.id)?.parameters ?? 'null')
  }

  /**
   * Gives the worker the oldest job that waits, or else the next one that comes within `wait` ms. Resolves with
   * `undefined` when there is none.
   */
  async claimNextJob(
    service: PullService,
    name: string,
    wait: number,
    signal: AbortSignal,
  ): Promise<JobClaim | undefined> {
    this.checkIn(service, name)
    const worker = service.recordWorker(name)
    let job = this.#takeJob(service)
    if (!job && wait > 0 && !this.#isClosed && this.#numWaiting < this.#limits.maxWaiting) {
      this.#numWaiting++
      worker.numWaitingPolls++
      try {
        job = await service.waitForJob(wait, signal)
      } finally {
        this.#numWaiting--
        worker.numWaitingPolls--
        worker.lastSeenAt = now()
      }
    }
    return job && this.#grantJob(job, worker)
  }

  /** Gives the worker this very job. @throws Refusal 409 when another worker has it */
  async claimJob(job: OpenJob, name: string): Promise<JobClaim> {
    const worker = job.service.recordWorker(name)
    if (job.isEnding || !job.isQueued) throw createConflict(job, 'another worker has claimed it')
    job.service.queue.remove(job)
    if (job.request && !job.request.tryStart()) throw createConflict(job, 'its request has ended')
    return this.#grantJob(job, worker)
  }

  #takeJob(service: JobService): OpenJob | undefined {
    if (service.isUnavailable || this.#isClosed) return undefined
    for (;;) {
      const job = service.queue.take()
      // From here until `#grantJob` the job is in no queue and has no holder, so no other worker can get it.
      if (!job?.request || job.request.tryStart()) return job
    }
  }

  /** Gives jobs that wait to long polls that wait. */
  assignWaitingJobs(service: JobService): void {
    while (service.queue.size > 0) {
      const [waiter] = service.waiters
      const job = waiter && this.#takeJob(service)
      if (!job) return
      waiter(job)
    }
  }

  async #grantJob(job: OpenJob, worker: WorkerRecord): Promise<JobClaim> {
    const { service, request, instance } = job
    if (request && instance) swapInstances(request, instance, worker)
    job.status = 'WORKING'
    const lease = randomBytes(9).toString('base64url')
    job.lease = lease
    job.attempts++
    service.counts.claimed++
    this.assignJob(job, worker)
    if (request) return { job, lease, parameters: request.input.parameters }
    try {
      await this.#saveJob(job)
      return { job, lease, parameters: this.readParameters(job) }
    } catch (error) {
      // Unless the job was cancelled while it was being written.
      if (job.lease === lease && !job.isEnding) {
        job.attempts--
        this.#requeueJob(job)
      }
      throw error
    }
  }

  assignJob(job: OpenJob, worker: WorkerRecord): void {
    job.holder = worker
    worker.jobs.add(job)
    this.#restartLease(job)
  }

  #restartLease(job: OpenJob): void {
    job.leaseTimer?.clear()
    job.leaseTimer = afterSilence(this.#limits.lease, () => {
      job.service.counts.expired++
      this.releaseJob(job, `the lease of worker ${job.holder?.name} ran out`)
    })
  }

  /** The worker says that it still works on the job. @throws Refusal 409 */
  renewLease(job: OpenJob, caller: WorkerIdentity): void {
    this.requireHolder(job, caller)
    job.service.recordWorker(caller.worker)
    this.#restartLease(job)
  }

  /** @throws Refusal 409 when the claim of the caller is over, or never was */
  requireHolder(job: OpenJob, { worker, lease }: WorkerIdentity): void {
    const isHolder =
      job.status === 'WORKING' && (lease ? lease === job.lease : worker === job.holder?.name)
    if (isHolder && !job.isEnding) return
    job.service.countLate()
    throw createConflict(
      job,
      job.isEnding ? 'its end is being stored' : 'the caller has no claim of it, or not any more',
    )
  }

  /**
   * Takes a job from its worker:
   * 1. A job that stands for a request fails its request, and the cluster decides whether to send it again.
   * 2. A job that was claimed too often ends.
   * 3. Any other job goes back to its old place in the queue.
   */
  releaseJob(job: OpenJob, why: string): void {
    const { service, request } = job
    if (job.status !== 'WORKING' || job.isEnding) return
    // 1.
    if (request) {
      const text = `${service.row.name}: job ${job.id}: ${why}`
      request.fail(new ManyhostError('MANYHOST_INSTANCE_ENDED', text))
      return
    }
    // 2.
    if (job.attempts >= this.#limits.maxAttempts) {
      this.#endExhausted(job, `given up after ${job.attempts} claims: ${why}`)
      return
    }
    // 3. Results that were reported under the lost claim are dropped: they may be incomplete.
    job.results = undefined
    this.#requeueJob(job)
    // If this write fails, the store still says WORKING. The next process then lets that claim run out once more.
    void this.#saveJob(job).catch(ignore)
    this.assignWaitingJobs(service)
  }

  #requeueJob(job: OpenJob): void {
    this.unassignJob(job)
    job.status = 'REGISTERED'
    job.lease = undefined
    job.service.queue.add(job)
  }

  /** From now on no worker holds the job. */
  unassignJob(job: OpenJob): void {
    job.leaseTimer?.clear()
    job.holder?.jobs.delete(job)
    job.holder = undefined
  }

  /**
   * Keeps results that were reported before the job ended. The status of the job does not change. A job that nobody has
   * claimed keeps them, too, because clients of the original system report results without a claim.
   * @param results JSON text that the result schema of the service has accepted
   * @throws Refusal 409 when the claim of the caller is over
   */
  async storeResults(job: OpenJob, results: string, caller: WorkerIdentity): Promise<void> {
    if (!job.isQueued || caller.lease) this.requireHolder(job, caller)
    const before = job.results
    job.results = results
    if (job.request) return
    try {
      await this.#saveJob(job)
    } catch (error) {
      if (job.results === results) job.results = before
      throw error
    }
  }

  #saveJob({ id, status, results, lease, attempts, holder }: OpenJob): Promise<void> {
    const worker = holder?.name
    return this.#store.setJob(id, { status, results, reason: undefined, worker, lease, attempts })
  }

  /** From now on no job is given to a worker. Claims that exist stay valid. */
  close(): void {
    this.#isClosed = true
  }
}

function ignore(): void {}

export function createConflict(job: OpenJob, why: string): Error {
  return createRefusal(409, 'Conflict', `job ${job.id}: ${why}`)
}

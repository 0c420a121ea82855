/**
 * Who has which job, and until when. One process, one thread: a claim is atomic because nothing can come between the
 * look and the take; it is answered when it is in the store.
 */
import { randomBytes } from 'node:crypto'
import { ManyhostError } from '../../src/core/errors.ts'
import { afterSilence, now } from '../../src/core/time.ts'
import type { JobStore } from './job-store.ts'
import { createRefusal } from './json.ts'
import type { OpenJob, WorkerIdentity, WorkerRecord } from './open-job.ts'
import { swapInstances } from './pull-instance.ts'
import type { PullService } from './pull-service.ts'

export interface JobClaimLimits {
  /** Milliseconds for which a claim holds without a sign of its worker. */
  readonly lease: number
  readonly maxAttempts: number
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
  /** Ends a job that was claimed too often. */
  readonly #endExhausted: (job: OpenJob, reason: string) => void
  #numWaiting = 0
  #isClosed = false

  constructor(
    store: JobStore,
    limits: JobClaimLimits,
    giveUp: (job: OpenJob, reason: string) => void,
  ) {
    this.#store = store
    this.#limits = limits
    this.#endExhausted = giveUp
  }

  /** @param name of a worker, or undefined when somebody else says that the service is well */
  checkIn(service: PullService, name: string | undefined): void {
    service.checkIn()
    if (name === undefined) return
    const seat = service.recordWorker(name)
    // A name is what a worker chose for itself alone; an address may be that of many.
    if (name.startsWith('@')) return
    for (const job of seat.jobs) this.#restartLease(job)
  }

  /** JSON text. */
  readParameters(job: OpenJob): string {
    return job.request
      ? job.request.input.parameters
      : (this.#store.job(job.id)?.parameters ?? 'null')
  }

  /** The oldest job that waits becomes this worker's; with `wait`, the next one that comes within so many ms. */
  async claimNextJob(
    service: PullService,
    name: string,
    wait: number,
    signal: AbortSignal,
  ): Promise<JobClaim | undefined> {
    this.checkIn(service, name)
    const seat = service.recordWorker(name)
    let job = this.#takeJob(service)
    if (!job && wait > 0 && !this.#isClosed && this.#numWaiting < this.#limits.maxWaiting) {
      this.#numWaiting++
      seat.numWaitingPolls++
      try {
        job = await service.waitForJob(wait, signal)
      } finally {
        this.#numWaiting--
        seat.numWaitingPolls--
        seat.lastSeenAt = now()
      }
    }
    return job && this.#grantJob(job, seat)
  }

  /** As `claim`, of one job that is named. @throws Refusal 409 when another worker has it */
  async claimJob(job: OpenJob, name: string): Promise<JobClaim> {
    const seat = job.service.recordWorker(name)
    if (job.isEnding || !job.isQueued) throw createConflict(job, 'another worker has it')
    job.service.queue.remove(job)
    if (job.request && !job.request.tryStart()) throw createConflict(job, 'its request is over')
    return this.#grantJob(job, seat)
  }

  #takeJob(service: PullService): OpenJob | undefined {
    if (service.isUnavailable || this.#isClosed) return undefined
    for (;;) {
      const job = service.queue.take()
      // Not to be had by anybody else until it has been given: see `#give`.
      if (!job?.request || job.request.tryStart()) return job
    }
  }

  /** Brings jobs that wait to workers that wait. */
  assignWaitingJobs(service: PullService): void {
    while (service.queue.size > 0) {
      const [waiter] = service.waiters
      const job = waiter && this.#takeJob(service)
      if (!job) return
      waiter(job)
    }
  }

  async #grantJob(job: OpenJob, seat: WorkerRecord): Promise<JobClaim> {
    const { service, request: call } = job
    if (call) swapInstances(call, seat)
    job.status = 'WORKING'
    const lease = randomBytes(9).toString('base64url')
    job.lease = lease
    job.attempts++
    service.counts.claimed++
    this.assignJob(job, seat)
    if (call) return { job, lease, parameters: call.input.parameters }
    try {
      await this.#saveJob(job)
      return { job, lease, parameters: this.readParameters(job) }
    } catch (error) {
      // Meanwhile it may have been cancelled.
      if (job.lease === lease && !job.isEnding) {
        job.attempts--
        this.#requeueJob(job)
      }
      throw error
    }
  }

  /** It is this worker's from now on. */
  assignJob(job: OpenJob, seat: WorkerRecord): void {
    job.holder = seat
    seat.jobs.add(job)
    this.#restartLease(job)
  }

  #restartLease(job: OpenJob): void {
    job.leaseTimer?.clear()
    job.leaseTimer = afterSilence(this.#limits.lease, () => {
      job.service.counts.expired++
      this.releaseJob(job, `the lease of worker ${job.holder?.name} ran out`)
    })
  }

  /** The worker goes on with it. @throws Refusal 409 */
  renewLease(job: OpenJob, caller: WorkerIdentity): void {
    this.requireHolder(job, caller)
    job.service.recordWorker(caller.worker)
    this.#restartLease(job)
  }

  /** @throws Refusal 409 when the claim is not the caller's any more */
  requireHolder(job: OpenJob, { worker, lease }: WorkerIdentity): void {
    const isHolder =
      job.status === 'WORKING' && (lease ? lease === job.lease : worker === job.holder?.name)
    if (isHolder && !job.isEnding) return
    job.service.counts.late++
    throw createConflict(
      job,
      job.isEnding ? 'it is being ended' : 'it is not, or no more, your claim',
    )
  }

  /** Takes a job from its worker: to the head of the line, or, where a request waits for it, back to the cluster. */
  releaseJob(job: OpenJob, why: string): void {
    const { service, request: call } = job
    if (job.status !== 'WORKING' || job.isEnding) return
    if (call) {
      const text = `${service.row.name}: job ${job.id}: ${why}`
      call.fail(new ManyhostError('MANYHOST_INSTANCE_ENDED', text))
      return
    }
    if (job.attempts >= this.#limits.maxAttempts) {
      this.#endExhausted(job, `given up after ${job.attempts} claims: ${why}`)
      return
    }
    // What a worker reported under its claim goes with the claim: it may be half of a result.
    job.results = undefined
    this.#requeueJob(job)
    // The store still says WORKING if this fails; whoever reads it again lets that claim run out once more.
    void this.#saveJob(job).catch(ignore)
    this.assignWaitingJobs(service)
  }

  #requeueJob(job: OpenJob): void {
    this.unassignJob(job)
    job.status = 'REGISTERED'
    job.lease = undefined
    job.service.queue.add(job)
  }

  /** It is nobody's. */
  unassignJob(job: OpenJob): void {
    job.leaseTimer?.clear()
    job.holder?.jobs.delete(job)
    job.holder = undefined
  }

  /**
   * Keeps results that were reported before the job ended. A job that has no claim yet keeps them, too: clients of the
   * original report without one. The job's status does not change.
   * @param results JSON text that the schema of the service has accepted
   * @throws Refusal 409 when the claim is not the caller's any more
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

  #saveJob({ id, status, results, lease, attempts, holder: seat }: OpenJob): Promise<void> {
    const worker = seat?.name
    return this.#store.setJob(id, {
      status,
      results,
      reason: undefined,
      worker,
      lease,
      attempts,
    })
  }

  /** Gives nothing any more; claims that hold hold on. */
  close(): void {
    this.#isClosed = true
  }
}

function ignore(): void {}

export function createConflict(job: OpenJob, why: string): Error {
  return createRefusal(409, 'Conflict', `job ${job.id}: ${why}`)
}

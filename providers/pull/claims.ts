/**
 * Who has which job, and until when. One process, one thread: a claim is atomic because nothing can come between the
 * look and the take; it is answered when it is in the store.
 */
import { randomBytes } from 'node:crypto'
import { ManyhostError } from '../../src/core/errors.ts'
import { afterSilence, now } from '../../src/core/time.ts'
import type { Caller, Job, Seat } from './job.ts'
import { refuse } from './json.ts'
import { trade } from './place.ts'
import type { Service } from './service.ts'
import type { JobStore } from './store.ts'

export interface ClaimLimits {
  /** Milliseconds for which a claim holds without a sign of its worker. */
  readonly lease: number
  readonly maxAttempts: number
  readonly maxWaiting: number
}

export interface Claim {
  readonly job: Job
  readonly lease: string
  /** JSON text. */
  readonly parameters: string
}

export class Claims {
  readonly #store: JobStore
  readonly #limits: ClaimLimits
  /** Ends a job that was claimed too often. */
  readonly #giveUp: (job: Job, reason: string) => void
  #waiting = 0
  #isClosed = false

  constructor(store: JobStore, limits: ClaimLimits, giveUp: (job: Job, reason: string) => void) {
    this.#store = store
    this.#limits = limits
    this.#giveUp = giveUp
  }

  /** @param name of a worker, or undefined when somebody else says that the service is well */
  checkIn(service: Service, name: string | undefined): void {
    service.checkIn()
    if (name === undefined) return
    const seat = service.see(name)
    // A name is what a worker chose for itself alone; an address may be that of many.
    if (name.startsWith('@')) return
    for (const job of seat.jobs) this.#renew(job)
  }

  /** JSON text. */
  parameters(job: Job): string {
    return job.call ? job.call.facts.parameters : (this.#store.job(job.id)?.parameters ?? 'null')
  }

  /** The oldest job that waits becomes this worker's; with `wait`, the next one that comes within so many ms. */
  async claim(
    service: Service,
    name: string,
    wait: number,
    signal: AbortSignal,
  ): Promise<Claim | undefined> {
    this.checkIn(service, name)
    const seat = service.see(name)
    let job = this.#take(service)
    if (!job && wait > 0 && !this.#isClosed && this.#waiting < this.#limits.maxWaiting) {
      this.#waiting++
      seat.parked++
      try {
        job = await service.wait(wait, signal)
      } finally {
        this.#waiting--
        seat.parked--
        seat.seenAt = now()
      }
    }
    return job && this.#give(job, seat)
  }

  /** As `claim`, of one job that is named. @throws Refusal 409 when another worker has it */
  async claimOne(job: Job, name: string): Promise<Claim> {
    const seat = job.service.see(name)
    if (job.isSettling || !job.waits) throw conflict(job, 'another worker has it')
    job.service.line.remove(job)
    if (job.call && !job.call.begin()) throw conflict(job, 'its request is over')
    return this.#give(job, seat)
  }

  #take(service: Service): Job | undefined {
    if (service.isShut || this.#isClosed) return undefined
    for (;;) {
      const job = service.line.take()
      // Not to be had by anybody else until it has been given: see `#give`.
      if (!job?.call || job.call.begin()) return job
    }
  }

  /** Brings jobs that wait to workers that wait. */
  serve(service: Service): void {
    while (service.line.size > 0) {
      const [waiter] = service.waiters
      const job = waiter && this.#take(service)
      if (!job) return
      waiter(job)
    }
  }

  async #give(job: Job, seat: Seat): Promise<Claim> {
    const { service, call } = job
    if (call) trade(call, seat)
    job.status = 'WORKING'
    const lease = randomBytes(9).toString('base64url')
    job.lease = lease
    job.attempts++
    service.counts.claimed++
    this.hold(job, seat)
    if (call) return { job, lease, parameters: call.facts.parameters }
    try {
      await this.#save(job)
      return { job, lease, parameters: this.parameters(job) }
    } catch (error) {
      // Meanwhile it may have been cancelled.
      if (job.lease === lease && !job.isSettling) {
        job.attempts--
        this.#putBack(job)
      }
      throw error
    }
  }

  /** It is this worker's from now on. */
  hold(job: Job, seat: Seat): void {
    job.seat = seat
    seat.jobs.add(job)
    this.#renew(job)
  }

  #renew(job: Job): void {
    job.timer?.clear()
    job.timer = afterSilence(this.#limits.lease, () => {
      job.service.counts.expired++
      this.release(job, `the lease of worker ${job.seat?.name} ran out`)
    })
  }

  /** The worker goes on with it. @throws Refusal 409 */
  renew(job: Job, caller: Caller): void {
    this.mustHold(job, caller)
    job.service.see(caller.worker)
    this.#renew(job)
  }

  /** @throws Refusal 409 when the claim is not the caller's any more */
  mustHold(job: Job, { worker, lease }: Caller): void {
    const isHolder =
      job.status === 'WORKING' && (lease ? lease === job.lease : worker === job.seat?.name)
    if (isHolder && !job.isSettling) return
    job.service.counts.late++
    throw conflict(job, job.isSettling ? 'it is being ended' : 'it is not, or no more, your claim')
  }

  /** Takes a job from its worker: to the head of the line, or, where a request waits for it, back to the cluster. */
  release(job: Job, why: string): void {
    const { service, call } = job
    if (job.status !== 'WORKING' || job.isSettling) return
    if (call) {
      const text = `${service.row.name}: job ${job.id}: ${why}`
      call.fail(new ManyhostError('MANYHOST_INSTANCE_ENDED', text))
      return
    }
    if (job.attempts >= this.#limits.maxAttempts) {
      this.#giveUp(job, `given up after ${job.attempts} claims: ${why}`)
      return
    }
    // What a worker reported under its claim goes with the claim: it may be half of a result.
    job.results = undefined
    this.#putBack(job)
    // The store still says WORKING if this fails; whoever reads it again lets that claim run out once more.
    void this.#save(job).catch(ignore)
    this.serve(service)
  }

  #putBack(job: Job): void {
    this.letGo(job)
    job.status = 'REGISTERED'
    job.lease = undefined
    job.service.line.add(job)
  }

  /** It is nobody's. */
  letGo(job: Job): void {
    job.timer?.clear()
    job.seat?.jobs.delete(job)
    job.seat = undefined
  }

  /**
   * Keeps results that were reported before the job ended. A job that has no claim yet keeps them, too: clients of the
   * original report without one. The job's status does not change.
   * @param results JSON text that the schema of the service has accepted
   * @throws Refusal 409 when the claim is not the caller's any more
   */
  async keepResults(job: Job, results: string, caller: Caller): Promise<void> {
    if (!job.waits || caller.lease) this.mustHold(job, caller)
    const before = job.results
    job.results = results
    if (job.call) return
    try {
      await this.#save(job)
    } catch (error) {
      if (job.results === results) job.results = before
      throw error
    }
  }

  #save({ id, status, results, lease, attempts, seat }: Job): Promise<void> {
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

export function conflict(job: Job, why: string): Error {
  return refuse(409, 'Conflict', `job ${job.id}: ${why}`)
}

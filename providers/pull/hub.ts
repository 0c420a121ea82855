/**
 * Services, their workers and their jobs. One process, one thread: what is decided here is decided at once, and is
 * answered when it is in the store. A claim is atomic because nothing can come between the look and the take.
 */
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { ManyhostError } from '../../src/errors.ts'
import { afterSilence, now, wallClock } from '../../src/time.ts'
import type { Call } from './call.ts'
import type { Caller, Job, Seat } from './job.ts'
import { type Parsed, refuse } from './json.ts'
import { trade } from './place.ts'
import { Service, type ServiceLimits } from './service.ts'
import { isEnded, type JobRow, type JobStore, type ServiceRow } from './store.ts'

export interface HubLimits extends ServiceLimits {
  /** Milliseconds for which a claim holds without a sign of its worker. */
  readonly lease: number
  readonly maxAttempts: number
  readonly maxJobs: number
  readonly maxServices: number
  readonly maxWaiting: number
  readonly keep: number
}

export interface Claim {
  readonly job: Job
  readonly lease: string
  /** JSON text. */
  readonly parameters: string
}

export interface Outcome {
  readonly status: 'COMPLETED' | 'ERROR'
  readonly results: { readonly text: string; readonly parsed: Parsed } | undefined
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
  /** Jobs that have not ended, those of requests included. */
  readonly #open = new Map<string, Job>()
  readonly #overCalls = new Set<string>()
  #seq: number
  #waiting = 0
  #ended = 0
  #isClosed = false

  constructor(store: JobStore, limits: HubLimits) {
    this.store = store
    this.limits = limits
    this.#seq = store.lastSeq()
    for (const row of store.services()) this.#addService(row)
    for (const row of store.openJobs()) this.#resume(row)
  }

  /** A job that was there when the process before this one ended. Its worker may still have it. */
  #resume(row: Omit<JobRow, 'parameters' | 'results'>): void {
    const service = this.services.get(row.service)
    if (!service) return
    const job = this.#open_(service, row)
    job.status = row.status
    job.attempts = row.attempts
    job.lease = row.lease
    if (row.status === 'WORKING') this.#hold(job, service.see(row.worker ?? ''))
    else service.line.add(job)
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  /** Answers to those that wait for a job. */
  get waiting(): number {
    return this.#waiting
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
    this.#serve(service)
    service.wake()
  }

  /** @param name of a worker, or undefined when somebody else says that the service is well */
  checkIn(service: Service, name: string | undefined): void {
    service.row.checkedIn = wallClock()
    if (name === undefined) return
    const seat = service.see(name)
    // A name is what a worker chose for itself alone; an address may be that of many.
    if (name.startsWith('@')) return
    for (const job of seat.jobs) this.#renew(job)
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
    this.#serve(service)
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
    this.#serve(service)
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

  /** JSON text. */
  parameters(job: Job): string {
    return job.call ? job.call.facts.parameters : (this.store.job(job.id)?.parameters ?? 'null')
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
    if (!job && wait > 0 && !this.#isClosed && this.#waiting < this.limits.maxWaiting) {
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
  #serve(service: Service): void {
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
    this.#hold(job, seat)
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

  #hold(job: Job, seat: Seat): void {
    job.seat = seat
    seat.jobs.add(job)
    this.#renew(job)
  }

  #renew(job: Job): void {
    job.timer?.clear()
    job.timer = afterSilence(this.limits.lease, () => {
      job.service.counts.expired++
      this.release(job, `the lease of worker ${job.seat?.name} ran out`)
    })
  }

  /** The worker goes on with it. @throws Refusal 409 */
  renew(job: Job, caller: Caller): void {
    this.#mustHold(job, caller)
    job.service.see(caller.worker)
    this.#renew(job)
  }

  #mustHold(job: Job, { worker, lease }: Caller): void {
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
    if (job.attempts >= this.limits.maxAttempts) {
      const reason = `given up after ${job.attempts} claims: ${why}`
      void this.#end(job, { status: 'ERROR', results: undefined, reason }).catch(ignore)
      return
    }
    this.#putBack(job)
    // The store still says WORKING if this fails; whoever reads it again lets that claim run out once more.
    void this.#save(job).catch(ignore)
    this.#serve(service)
  }

  #putBack(job: Job): void {
    this.#letGo(job)
    job.status = 'REGISTERED'
    job.lease = undefined
    job.service.line.add(job)
  }

  #letGo(job: Job): void {
    job.timer?.clear()
    job.seat?.jobs.delete(job)
    job.seat = undefined
  }

  /**
   * A worker's result, or the word that it failed. One that was never claimed is claimed by it.
   * @throws Refusal 409 when the claim is not the caller's any more; 400 when the schema refuses the results
   */
  async finish(job: Job, outcome: Outcome, caller: Caller): Promise<void> {
    if (job.waits && !caller.lease) await this.claimOne(job, caller.worker)
    this.#mustHold(job, caller)
    if (outcome.results && outcome.status === 'COMPLETED') {
      job.service.result.check(outcome.results.parsed)
    }
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
      call.answer(...answerTo(status, results?.text, reason))
      return
    }
    const wasWaiting = job.waits
    job.isSettling = true
    service.line.remove(job)
    try {
      const { lease, attempts, seat } = job
      await this.store.setJob(job.id, {
        status,
        results: results?.text,
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
    this.#letGo(job)
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

  #save({ id, status, lease, attempts, seat }: Job): Promise<void> {
    const worker = seat?.name
    return this.store.setJob(id, {
      status,
      results: undefined,
      reason: undefined,
      worker,
      lease,
      attempts,
    })
  }

  #lose(service: Service, seat: Seat, silent: number): void {
    const why = `worker ${seat.name} was silent for ${Math.round(silent)} ms`
    service.forget(seat)
    service.counts.lost++
    const { place } = seat
    seat.place = undefined
    place?.lost(why)
    for (const job of [...seat.jobs]) this.release(job, why)
  }

  /** Whoever waits is sent away; jobs stay in the store. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
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

function conflict(job: Job, why: string): Error {
  return refuse(409, 'Conflict', `job ${job.id}: ${why}`)
}

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

/** A version 5 UUID (RFC 9562 section 5.5): the same text has the same id, before and after a restart. */
export function idOf(url: string): string {
  const namespace = Buffer.from('6ba7b8119dad11d180b400c04fd430c8', 'hex')
  const hash = createHash('sha1').update(namespace).update(url).digest().subarray(0, 16)
  hash[6] = ((hash[6] as number) & 0x0f) | 0x50
  hash[8] = ((hash[8] as number) & 0x3f) | 0x80
  return hash.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}

/** A worker: it checks in, asks for jobs, works on them, and reports their outcomes. */
import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import type { Dispatcher } from 'undici'
import { backoffDelay } from '../../src/core/backoff.ts'
import { type Deferred, deferred } from '../../src/core/deferred.ts'
import { asError, describeError, ManyhostError } from '../../src/core/errors.ts'
import { callback, milliseconds, parseOptions, rule, text, whole } from '../../src/core/options.ts'
import { every, now, resolveWithin, sleep } from '../../src/core/time.ts'
import { listenerRule } from '../../src/core/user-functions.ts'
import { type PullResponse, RETRY_DELAY, toStatusError, toUnreachableError } from './api-client.ts'
import { createErrorReports, createResultReports, type JobReports } from './job-reports.ts'
import { type ClaimedJob, reportOutcome } from './outcome-reporter.ts'
import { WORKING_REPORT, WorkerApi } from './worker-api.ts'
import { LEASE_HEADER, WORKER_NAME } from './worker-headers.ts'

/** A job, as the function of a worker gets it. */
export interface WorkerJob {
  readonly id: string
  /** Match the registration schema of the service. */
  readonly parameters: Readonly<Record<string, unknown>>
  /** The request to the virtual URL that the job stands for; undefined for a job that was submitted by the API. */
  readonly request: { readonly method: string; readonly path: string } | undefined
  /** Aborted when the claim is lost: the job was cancelled, or given to another worker. */
  readonly signal: AbortSignal
}

export type JobHandler = (job: WorkerJob) => object | Promise<object>

export interface WorkerOptions {
  /** URL of the service: `http://hub:5000/services/<id>`. */
  readonly url: string
  /** Answers with the results. An error that it throws ends the job as ERROR. A subclass may have the method instead. */
  readonly handle?: JobHandler
  /** A name that no other worker of the service has. @default the host name and some random characters */
  readonly name?: string
  readonly token?: string
  /** Milliseconds between two check-ins; a third of the service's timeout, if that is less. @default 30000 */
  readonly checkInInterval?: number
  /** Milliseconds between two polls, where the hub does not support long polls. @default 3000 */
  readonly pollInterval?: number
  /** Milliseconds of one long poll for a job; 0: polls without waiting. @default 30000 */
  readonly wait?: number
  /** Jobs at a time. @default 1 */
  readonly concurrency?: number
  /** A dispatcher of undici, for a unix socket or for certificates. */
  readonly dispatcher?: Dispatcher
  /** Called with each error, after which the worker goes on. @default writes a line to standard error */
  readonly onError?: (error: Error) => void
}

const WORKER_RULES = {
  url: text('an http or https URL', (value) => /^https?:/.test(value) && URL.canParse(value)),
  handle: callback<JobHandler>('a function of a job'),
  name: text('1 to 100 of letters, digits, _ . : -', (value) => WORKER_NAME.test(value)),
  token: text('a token'),
  checkInInterval: milliseconds(30_000),
  pollInterval: milliseconds(3_000),
  wait: milliseconds(30_000, 'polls'),
  concurrency: whole(1, 1),
  dispatcher: rule<Dispatcher>('a dispatcher of undici', undefined, (value) =>
    typeof (value as Dispatcher | null)?.dispatch === 'function'
      ? (value as Dispatcher)
      : undefined,
  ),
  onError: listenerRule<[error: Error]>('a function of an error', 'onError of a Worker'),
} as const

/** Seconds that a claim is assumed to hold where the server does not say it. */
const DEFAULT_LEASE_SECONDS = 60

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export class Worker {
  readonly name: string
  readonly #options: ReturnType<typeof parseWorkerOptions>
  readonly #api: WorkerApi
  readonly #stopping = new AbortController()
  readonly #running = new Set<Promise<void>>()
  #loops: Promise<unknown> | undefined
  /** Timeout of the service in ms, once it is known. */
  #timeout: number | undefined
  /** Resolved when a job ends, and the worker may ask for another one. */
  #slotFreed: Deferred<void> | undefined

  constructor(options: WorkerOptions) {
    this.#options = parseWorkerOptions(options)
    this.name = this.#options.name ?? createWorkerName()
    this.#api = new WorkerApi(this.#options.url, this.name, this.#options)
  }

  /** Works on one job. A subclass overrides this method, or the option `handle` is given. */
  handle(job: WorkerJob): object | Promise<object> {
    const { handle } = this.#options
    if (handle) return handle(job)
    throw new ManyhostError('MANYHOST_INVALID_OPTION', 'Worker: give `handle`, or override it')
  }

  /** Starts to check in and to ask for jobs. Idempotent. */
  start(): this {
    this.#loops ??= Promise.all([this.#checkInLoop(), this.#jobLoop()])
    return this
  }

  /** Number of jobs that the worker works on. */
  get busy(): number {
    return this.#running.size
  }

  /** Takes no new job. Resolves when the jobs that it has are done, or after `timeout` ms. */
  async stop(timeout = Number.POSITIVE_INFINITY): Promise<void> {
    this.#stopping.abort(new ManyhostError('MANYHOST_ABORTED', `${this.name} is stopping`))
    const done = Promise.all([this.#loops, ...this.#running])
    if (timeout === Number.POSITIVE_INFINITY) await done
    else await resolveWithin(timeout, done)
  }

  async #checkInLoop(): Promise<void> {
    await this.#repeat('check-in', async () => {
      await this.#api.checkIn()
      this.#timeout ??= await this.#api.fetchTimeout()
      // At a third of the timeout, two check-ins may be lost before the hub counts the worker as lost.
      const { checkInInterval } = this.#options
      await sleep(
        Math.min(checkInInterval, (this.#timeout ?? checkInInterval) / 3),
        this.#stopSignal,
      )
    })
  }

  async #jobLoop(): Promise<void> {
    const { concurrency, pollInterval, wait } = this.#options
    await this.#repeat('asking for a job', async () => {
      if (this.#running.size >= concurrency) {
        this.#slotFreed = deferred()
        return this.#slotFreed.promise
      }
      const askedAt = now()
      const answer = await this.#api.requestJob(wait, this.#stopSignal)
      if (answer.status === 200) return this.#beginJob(answer)
      if (answer.status !== 204) throw toStatusError('asking for a job', answer)
      const timeLeft = pollInterval - (now() - askedAt)
      if (timeLeft > 0) await sleep(timeLeft, this.#stopSignal)
    })
  }

  /** Repeats `once` until the worker is stopped. After a failure it reports the error and waits, longer each time. */
  async #repeat(what: string, once: () => Promise<void>): Promise<void> {
    let failures = 0
    while (!this.#stopSignal.aborted) {
      try {
        await once()
        failures = 0
      } catch (error) {
        if (this.#stopSignal.aborted) return
        this.#notifyError(error instanceof ManyhostError ? error : toUnreachableError(what, error))
        const delay = backoffDelay(failures++, RETRY_DELAY, Math.random)
        await sleep(delay, this.#stopSignal).catch(() => undefined)
      }
    }
  }

  get #stopSignal(): AbortSignal {
    return this.#stopping.signal
  }

  async #beginJob({ body, headers }: PullResponse): Promise<void> {
    const { data, meta } = (body ?? {}) as {
      data?: { id?: unknown; parameters?: WorkerJob['parameters'] }
      meta?: {
        lease?: { seconds?: number; body_size?: number }
        request?: WorkerJob['request']
      }
    }
    const { id, parameters = {} } = data ?? {}
    if (typeof id !== 'string') throw new Error('asking for a job: the answer has no id of a job')
    const lease = String(headers[LEASE_HEADER] ?? '')
    const { seconds = DEFAULT_LEASE_SECONDS, body_size: maxReportSize = Number.POSITIVE_INFINITY } =
      meta?.lease ?? {}
    // The original's server only shows the job. The worker claims it by the report that it works on it.
    if (lease === '') {
      const answer = await this.#api.patchJob(id, lease, WORKING_REPORT)
      if (answer.status !== 200) throw toStatusError(`claim of job ${id}`, answer)
    }
    const lost = new AbortController()
    const job = { id, parameters, request: meta?.request, signal: lost.signal }
    const renewal = every((seconds * 1_000) / 3, () => void this.#renewLease(id, lease, lost))
    const run = this.#runJob(job, { id, lease, maxReportSize }).finally(() => {
      renewal.clear()
      this.#running.delete(run)
      this.#slotFreed?.resolve()
    })
    this.#running.add(run)
  }

  async #renewLease(id: string, lease: string, lost: AbortController): Promise<void> {
    try {
      const answer = await this.#api.patchJob(id, lease, WORKING_REPORT)
      if (answer.status < 400 || answer.status >= 500) return
      lost.abort(toStatusError(`job ${id}`, answer))
    } catch {
      // The lease holds for two more tries.
    }
  }

  async #runJob(job: WorkerJob, claimed: ClaimedJob): Promise<void> {
    const { maxReportSize } = claimed
    try {
      let reports: JobReports
      try {
        const results = await this.handle(job)
        reports = createResultReports(results, maxReportSize)
      } catch (error) {
        reports = createErrorReports(error, maxReportSize)
        if (error instanceof ManyhostError) this.#notifyError(error)
      }
      if (job.signal.aborted) throw job.signal.reason
      await reportOutcome(this.#api, claimed, reports, (error) => this.#notifyError(error))
    } catch (error) {
      this.#notifyError(asError(error))
    }
  }

  #notifyError(error: Error): void {
    const { onError } = this.#options
    if (onError) onError(error)
    else process.stderr.write(`worker ${this.name}: ${describeError(error)}\n`)
  }
}

function parseWorkerOptions(options: WorkerOptions) {
  const { url, ...others } = parseOptions('Worker', options, WORKER_RULES)
  if (url !== undefined) return { url, ...others }
  throw new ManyhostError('MANYHOST_INVALID_OPTION', 'Worker: url is missing')
}

function createWorkerName(): string {
  const host = hostname()
    .replace(/[^\w.-]/g, '-')
    .slice(0, 60)
  return `${host}-${randomUUID().slice(0, 8)}`
}

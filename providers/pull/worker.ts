/** A worker: it checks in, asks for jobs, does them, and says what came of them. */
import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import type { Dispatcher } from 'undici'
import { asError, describeError, ManyhostError } from '../../src/core/errors.ts'
import { callback, milliseconds, parseOptions, rule, text, whole } from '../../src/core/options.ts'
import { every, now, resolveWithin, sleep } from '../../src/core/time.ts'
import { listenerRule } from '../../src/core/user-functions.ts'
import {
  backoff,
  type PullResponse,
  sendApiRequest,
  toStatusError,
  toUnreachableError,
} from './api-client.ts'
import { createErrorReports, createResultReports, type JobReports } from './job-reports.ts'

/** What a worker is to do. */
export interface WorkerJob {
  readonly id: string
  /** As the service's registration schema has them. */
  readonly parameters: Readonly<Record<string, unknown>>
  /** The request to the virtual URL that it stands for, if it does. */
  readonly request: { readonly method: string; readonly path: string } | undefined
  /** Aborted when the job is not ours any more: it was cancelled, or given to another. */
  readonly signal: AbortSignal
}

export type JobHandler = (job: WorkerJob) => object | Promise<object>

export interface WorkerOptions {
  /** URL of the service: `http://hub:5000/services/<id>`. */
  readonly url: string
  /** Answers with the results. What it throws ends the job as ERROR. A subclass has the method instead. */
  readonly handle?: JobHandler
  /** Unlike that of any other worker of the service. @default host name and some random letters */
  readonly name?: string
  readonly token?: string
  /** Milliseconds between two check-ins; a third of the service's timeout, where that is less. @default 30000 */
  readonly checkInInterval?: number
  /** Milliseconds between two questions, where the hub does not let us wait for the answer. @default 3000 */
  readonly pollInterval?: number
  /** Milliseconds for which it waits for a job at a time (long poll); 0 polls. @default 30000 */
  readonly wait?: number
  /** Jobs at a time. @default 1 */
  readonly concurrency?: number
  /** Undici's, for a unix socket or certificates. */
  readonly dispatcher?: Dispatcher
  /** Hears of what went wrong; the worker goes on. @default a line on standard error */
  readonly onError?: (error: Error) => void
}

const WORKER_RULES = {
  url: text('an http or https URL', (value) => /^https?:/.test(value) && URL.canParse(value)),
  handle: callback<JobHandler>('a function of a job'),
  name: text('1 to 100 of letters, digits, _ . : -', (value) => /^[\w.:-]{1,100}$/.test(value)),
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

/** Paths at which a server gives out jobs: ours, and the original's. */
const NEXT_PATHS = ['/next', '/jobs/next'] as const
/** Statuses by which a server refuses what a report says, so that another report may be taken. */
const REFUSED_STATUSES: ReadonlySet<number> = new Set([400, 413, 422])

/** The report that goes on while a job is worked on. */
const WORKING_REPORT = '{"status":"WORKING"}'
/** Tries to bring a result home. With the waits between them about a minute and a half. */
const MAX_RESULT_TRIES = 10

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export class Worker {
  readonly name: string
  readonly #options: ReturnType<typeof parseWorkerOptions>
  readonly #url: string
  readonly #stopping = new AbortController()
  readonly #running = new Set<Promise<void>>()
  #loops: Promise<unknown> | undefined
  /** Milliseconds. */
  #timeout: number | undefined
  #onSlotFree: (() => void) | undefined
  /** Index of the path in `NEXT_PATHS` that the server knows. */
  #nextPath = 0

  constructor(options: WorkerOptions) {
    this.#options = parseWorkerOptions(options)
    this.#url = (this.#options.url ?? '').replace(/\/+$/, '')
    this.name = this.#options.name ?? createWorkerName()
  }

  /** Does one job; a subclass says how, or the option. */
  handle(job: WorkerJob): object | Promise<object> {
    const { handle } = this.#options
    if (handle) return handle(job)
    throw new ManyhostError('MANYHOST_INVALID_OPTION', 'Worker: give `handle`, or override it')
  }

  /** Begins both loops. Idempotent. */
  start(): this {
    this.#loops ??= Promise.all([this.#checkInLoop(), this.#jobLoop()])
    return this
  }

  /** Jobs that it does now. */
  get busy(): number {
    return this.#running.size
  }

  /** Takes no new job, and resolves when those that it has are done, or after `timeout` ms. */
  async stop(timeout = Number.POSITIVE_INFINITY): Promise<void> {
    this.#stopping.abort(new ManyhostError('MANYHOST_ABORTED', `${this.name} is stopping`))
    const done = Promise.all([this.#loops, ...this.#running])
    if (timeout === Number.POSITIVE_INFINITY) await done
    else await resolveWithin(timeout, done)
  }

  async #checkInLoop(): Promise<void> {
    await this.#repeat('check-in', async () => {
      const answer = await this.#request('PATCH', this.#url)
      if (answer.status !== 200) throw toStatusError('check-in', answer)
      this.#timeout ??= await this.#fetchTimeout()
      // Two may go astray before the hub misses us.
      const { checkInInterval } = this.#options
      await sleep(
        Math.min(checkInInterval, (this.#timeout ?? checkInInterval) / 3),
        this.#stopSignal,
      )
    })
  }

  async #fetchTimeout(): Promise<number | undefined> {
    const { body } = await this.#request('GET', this.#url)
    const { timeout } = (body?.data ?? {}) as { timeout?: unknown }
    return typeof timeout === 'number' && timeout > 0 ? timeout * 1_000 : undefined
  }

  async #jobLoop(): Promise<void> {
    const { concurrency, pollInterval } = this.#options
    await this.#repeat('asking for a job', async () => {
      if (this.#running.size >= concurrency) {
        await new Promise<void>((resolve) => {
          this.#onSlotFree = resolve
        })
        return
      }
      const asked = now()
      const answer = await this.#requestJob()
      if (answer.status === 200) return await this.#beginJob(answer)
      if (answer.status !== 204) throw toStatusError('asking for a job', answer)
      const left = pollInterval - (now() - asked)
      if (left > 0) await sleep(left, this.#stopSignal)
    })
  }

  /** The original's server has no `/next`, and says so with a page instead of JSON. */
  async #requestJob(): Promise<PullResponse> {
    const { wait } = this.#options
    const seconds = Math.ceil(wait / 1_000)
    const look = () =>
      this.#request('GET', this.#url + NEXT_PATHS[this.#nextPath], undefined, {
        signal: this.#stopSignal,
        timeout: wait + 30_000,
        ...(seconds > 0 && { headers: { prefer: `wait=${seconds}` } }),
      })
    const answer = await look()
    if (answer.status !== 404 || answer.body !== undefined) return answer
    this.#nextPath = 1 - this.#nextPath
    return look()
  }

  /** Until it is stopped; after failures it waits, longer each time, and says so each time. */
  async #repeat(what: string, once: () => Promise<void>): Promise<void> {
    let failures = 0
    while (!this.#stopSignal.aborted) {
      try {
        await once()
        failures = 0
      } catch (error) {
        if (this.#stopSignal.aborted) return
        this.#notifyError(error instanceof ManyhostError ? error : toUnreachableError(what, error))
        await sleep(backoff(++failures, Math.random), this.#stopSignal).catch(() => undefined)
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
    if (typeof id !== 'string') throw new Error(`asking for a job: the answer names no job`)
    const lease = String(headers['x-manyhost-lease'] ?? '')
    // The original's server only shows the job: it is ours when the server has been told that we work on it.
    if (lease === '') {
      const answer = await this.#patchJob(id, lease, WORKING_REPORT)
      if (answer.status !== 200) throw toStatusError(`claim of job ${id}`, answer)
    }
    const limit = meta?.lease?.body_size ?? Number.POSITIVE_INFINITY
    const lost = new AbortController()
    const job = { id, parameters, request: meta?.request, signal: lost.signal }
    const renewal = every(((meta?.lease?.seconds ?? 60) * 1_000) / 3, () => {
      void this.#renewLease(id, lease, lost)
    })
    const run = this.#runJob(job, lease, limit).finally(() => {
      renewal.clear()
      this.#running.delete(run)
      this.#onSlotFree?.()
    })
    this.#running.add(run)
  }

  async #renewLease(id: string, lease: string, lost: AbortController): Promise<void> {
    try {
      const answer = await this.#patchJob(id, lease, WORKING_REPORT)
      if (answer.status < 400 || answer.status >= 500) return
      lost.abort(toStatusError(`job ${id}`, answer))
    } catch {
      // The lease holds a while longer, and so may the next try.
    }
  }

  async #runJob(job: WorkerJob, lease: string, limit: number): Promise<void> {
    try {
      let reports: JobReports
      try {
        const results = await this.handle(job)
        reports = createResultReports(results, limit)
      } catch (error) {
        reports = createErrorReports(error, limit)
        if (error instanceof ManyhostError) this.#notifyError(error)
      }
      if (job.signal.aborted) throw job.signal.reason
      await this.#reportOutcome(job.id, lease, limit, reports)
    } catch (error) {
      this.#notifyError(asError(error))
    }
  }

  /**
   * Sends the first report that the server takes. When it does not take the results, it is told that the job has failed:
   * nobody would hear of the end of the job otherwise.
   */
  async #reportOutcome(
    id: string,
    lease: string,
    limit: number,
    [report, ...others]: JobReports,
  ): Promise<void> {
    let error = await this.#sendReport(id, lease, report, MAX_RESULT_TRIES)
    if (!error) return
    for (const other of others.length > 0 ? others : createErrorReports(error, limit)) {
      if (!REFUSED_STATUSES.has(error.status) && !error.retryable) break
      this.#notifyError(error)
      error = await this.#sendReport(id, lease, other, error.retryable ? 1 : MAX_RESULT_TRIES)
      if (!error) return
    }
    throw error
  }

  /** Resolves with why the server has not taken the report, or with undefined when it has. */
  async #sendReport(
    id: string,
    lease: string,
    report: string,
    maxTries: number,
  ): Promise<ManyhostError | undefined> {
    const what = `result of job ${id}`
    for (let tries = 1; ; tries++) {
      let error: ManyhostError
      try {
        const answer = await this.#patchJob(id, lease, report)
        if (answer.status === 200) return undefined
        error = toStatusError(what, answer)
      } catch (thrown) {
        error = toUnreachableError(what, thrown)
      }
      if (!error.retryable || tries >= maxTries) return error
      await sleep(backoff(tries, Math.random))
    }
  }

  #patchJob(id: string, lease: string, text: string): Promise<PullResponse> {
    const [root] = this.#url.split('/services/')
    return this.#request('PATCH', `${root}/jobs/${id}`, text, {
      ...(lease !== '' && { headers: { 'x-manyhost-lease': lease } }),
    })
  }

  #request(
    method: 'GET' | 'PATCH',
    url: string,
    text?: string,
    more: { headers?: Record<string, string>; signal?: AbortSignal; timeout?: number } = {},
  ): Promise<PullResponse> {
    const headers = { 'x-manyhost-worker': this.name, ...more.headers }
    return sendApiRequest(url, this.#options, { method, text, ...more, headers })
  }

  #notifyError(error: Error): void {
    const { onError } = this.#options
    if (onError) onError(error)
    else process.stderr.write(`worker ${this.name}: ${describeError(error)}\n`)
  }
}

function parseWorkerOptions(options: WorkerOptions) {
  const parsed = parseOptions('Worker', options, WORKER_RULES)
  if (parsed.url !== undefined) return parsed
  throw new ManyhostError('MANYHOST_INVALID_OPTION', 'Worker: url is missing')
}

function createWorkerName(): string {
  const host = hostname()
    .replace(/[^\w.-]/g, '-')
    .slice(0, 60)
  return `${host}-${randomUUID().slice(0, 8)}`
}

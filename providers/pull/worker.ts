/** A worker: it checks in, asks for jobs, does them, and says what came of them. */
import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import type { Dispatcher } from 'undici'
import { asError, describe, ManyhostError } from '../../src/core/errors.ts'
import { listener } from '../../src/core/guarded.ts'
import { callback, milliseconds, parseOptions, rule, text, whole } from '../../src/core/options.ts'
import { every, now, sleep, within } from '../../src/core/time.ts'
import { type Answer, ask, backoff, refused, unreachable } from './link.ts'
import { type Reports, reportError, reportResults } from './report.ts'

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

export type Handle = (job: WorkerJob) => object | Promise<object>

export interface WorkerOptions {
  /** URL of the service: `http://hub:5000/services/<id>`. */
  readonly url: string
  /** Answers with the results. What it throws ends the job as ERROR. A subclass has the method instead. */
  readonly handle?: Handle
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

const RULES = {
  url: text('an http or https URL', (value) => /^https?:/.test(value) && URL.canParse(value)),
  handle: callback<Handle>('a function of a job'),
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
  onError: listener<[error: Error]>('a function of an error', 'onError of a Worker'),
} as const

/** Paths at which a server gives out jobs: ours, and the original's. */
const NEXT_PATHS = ['/next', '/jobs/next'] as const
/** Statuses by which a server refuses what a report says, so that another report may be taken. */
const REFUSALS: ReadonlySet<number> = new Set([400, 413, 422])

/** The report that goes on while a job is worked on. */
const WORKING = '{"status":"WORKING"}'
/** Tries to bring a result home. With the waits between them about a minute and a half. */
const RESULT_TRIES = 10

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export class Worker {
  readonly name: string
  readonly #options: ReturnType<typeof parse>
  readonly #url: string
  readonly #stopping = new AbortController()
  readonly #running = new Set<Promise<void>>()
  #loops: Promise<unknown> | undefined
  /** Milliseconds. */
  #timeout: number | undefined
  #freed: (() => void) | undefined
  /** Index of the path in `NEXT_PATHS` that the server knows. */
  #nextPath = 0

  constructor(options: WorkerOptions) {
    this.#options = parse(options)
    this.#url = (this.#options.url ?? '').replace(/\/+$/, '')
    this.name = this.#options.name ?? nameOf()
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
    else await within(timeout, done)
  }

  async #checkInLoop(): Promise<void> {
    await this.#repeat('check-in', async () => {
      const answer = await this.#ask('PATCH', this.#url)
      if (answer.status !== 200) throw refused('check-in', answer)
      this.#timeout ??= await this.#learnTimeout()
      // Two may go astray before the hub misses us.
      const { checkInInterval } = this.#options
      await sleep(Math.min(checkInInterval, (this.#timeout ?? checkInInterval) / 3), this.#lives)
    })
  }

  async #learnTimeout(): Promise<number | undefined> {
    const { body } = await this.#ask('GET', this.#url)
    const { timeout } = (body?.data ?? {}) as { timeout?: unknown }
    return typeof timeout === 'number' && timeout > 0 ? timeout * 1_000 : undefined
  }

  async #jobLoop(): Promise<void> {
    const { concurrency, pollInterval } = this.#options
    await this.#repeat('asking for a job', async () => {
      if (this.#running.size >= concurrency) {
        await new Promise<void>((resolve) => {
          this.#freed = resolve
        })
        return
      }
      const asked = now()
      const answer = await this.#next()
      if (answer.status === 200) return await this.#begin(answer)
      if (answer.status !== 204) throw refused('asking for a job', answer)
      const left = pollInterval - (now() - asked)
      if (left > 0) await sleep(left, this.#lives)
    })
  }

  /** The original's server has no `/next`, and says so with a page instead of JSON. */
  async #next(): Promise<Answer> {
    const { wait } = this.#options
    const seconds = Math.ceil(wait / 1_000)
    const look = () =>
      this.#ask('GET', this.#url + NEXT_PATHS[this.#nextPath], undefined, {
        signal: this.#lives,
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
    while (!this.#lives.aborted) {
      try {
        await once()
        failures = 0
      } catch (error) {
        if (this.#lives.aborted) return
        this.#report(error instanceof ManyhostError ? error : unreachable(what, error))
        await sleep(backoff(++failures, Math.random), this.#lives).catch(() => undefined)
      }
    }
  }

  get #lives(): AbortSignal {
    return this.#stopping.signal
  }

  async #begin({ body, headers }: Answer): Promise<void> {
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
      const answer = await this.#tell(id, lease, WORKING)
      if (answer.status !== 200) throw refused(`claim of job ${id}`, answer)
    }
    const limit = meta?.lease?.body_size ?? Number.POSITIVE_INFINITY
    const lost = new AbortController()
    const job = { id, parameters, request: meta?.request, signal: lost.signal }
    const renewal = every(((meta?.lease?.seconds ?? 60) * 1_000) / 3, () => {
      void this.#renew(id, lease, lost)
    })
    const run = this.#do(job, lease, limit).finally(() => {
      renewal.clear()
      this.#running.delete(run)
      this.#freed?.()
    })
    this.#running.add(run)
  }

  async #renew(id: string, lease: string, lost: AbortController): Promise<void> {
    try {
      const answer = await this.#tell(id, lease, WORKING)
      if (answer.status < 400 || answer.status >= 500) return
      lost.abort(refused(`job ${id}`, answer))
    } catch {
      // The lease holds a while longer, and so may the next try.
    }
  }

  async #do(job: WorkerJob, lease: string, limit: number): Promise<void> {
    try {
      let reports: Reports
      try {
        const results = await this.handle(job)
        reports = reportResults(results, limit)
      } catch (error) {
        reports = reportError(error, limit)
        if (error instanceof ManyhostError) this.#report(error)
      }
      if (job.signal.aborted) throw job.signal.reason
      await this.#bringHome(job.id, lease, limit, reports)
    } catch (error) {
      this.#report(asError(error))
    }
  }

  /**
   * Sends the first report that the server takes. When it does not take the results, it is told that the job has failed:
   * nobody would hear of the end of the job otherwise.
   */
  async #bringHome(
    id: string,
    lease: string,
    limit: number,
    [report, ...others]: Reports,
  ): Promise<void> {
    let error = await this.#deliver(id, lease, report, RESULT_TRIES)
    if (!error) return
    for (const other of others.length > 0 ? others : reportError(error, limit)) {
      if (!REFUSALS.has(error.status) && !error.retryable) break
      this.#report(error)
      error = await this.#deliver(id, lease, other, error.retryable ? 1 : RESULT_TRIES)
      if (!error) return
    }
    throw error
  }

  /** Resolves with why the server has not taken the report, or with undefined when it has. */
  async #deliver(
    id: string,
    lease: string,
    report: string,
    maxTries: number,
  ): Promise<ManyhostError | undefined> {
    const what = `result of job ${id}`
    for (let tries = 1; ; tries++) {
      let error: ManyhostError
      try {
        const answer = await this.#tell(id, lease, report)
        if (answer.status === 200) return undefined
        error = refused(what, answer)
      } catch (thrown) {
        error = unreachable(what, thrown)
      }
      if (!error.retryable || tries >= maxTries) return error
      await sleep(backoff(tries, Math.random))
    }
  }

  #tell(id: string, lease: string, text: string): Promise<Answer> {
    const [root] = this.#url.split('/services/')
    return this.#ask('PATCH', `${root}/jobs/${id}`, text, {
      ...(lease !== '' && { headers: { 'x-manyhost-lease': lease } }),
    })
  }

  #ask(
    method: 'GET' | 'PATCH',
    url: string,
    text?: string,
    more: { headers?: Record<string, string>; signal?: AbortSignal; timeout?: number } = {},
  ): Promise<Answer> {
    const headers = { 'x-manyhost-worker': this.name, ...more.headers }
    return ask(url, this.#options, { method, text, ...more, headers })
  }

  #report(error: Error): void {
    const { onError } = this.#options
    if (onError) onError(error)
    else process.stderr.write(`worker ${this.name}: ${describe(error)}\n`)
  }
}

function parse(options: WorkerOptions) {
  const parsed = parseOptions('Worker', options, RULES)
  if (parsed.url !== undefined) return parsed
  throw new ManyhostError('MANYHOST_INVALID_OPTION', 'Worker: url is missing')
}

function nameOf(): string {
  const host = hostname()
    .replace(/[^\w.-]/g, '-')
    .slice(0, 60)
  return `${host}-${randomUUID().slice(0, 8)}`
}

/** For programs that give work to services of the API, and wait for what comes of it. */

import { describe } from '../../src/core/describe.ts'
import { ManyhostError } from '../../src/core/errors.ts'
import { now, sleep } from '../../src/core/time.ts'
import {
  type PullClientOptions,
  type PullResponse,
  sendApiRequest,
  toStatusError,
  toUnreachableError,
} from './api-client.ts'

export interface JobClientOptions extends PullClientOptions {
  /** URL of the root of the API, where it is not the first argument. */
  readonly url?: string | URL
  /** Milliseconds between two looks at a job. @default 1000 */
  readonly interval?: number
}

export interface NewServiceOptions {
  /** Up to 30 characters. */
  readonly name: string
  readonly description?: string
  /** JSON Schema. @default any object */
  readonly jobRegistrationSchema?: object
  /** JSON Schema. @default any object */
  readonly jobResultSchema?: object
  /** Milliseconds. @default 30000 */
  readonly timeout?: number
  /** Opens this service alone. */
  readonly token?: string
}

/** As it was when it was looked at last. */
export interface Job {
  readonly id: string
  readonly status: 'REGISTERED' | 'WORKING' | 'COMPLETED' | 'ERROR'
  readonly isComplete: boolean
  readonly parameters: unknown
  /** Null until it is complete. */
  readonly results: unknown
  /** Why it ended as ERROR. */
  readonly reason: string | null
}

/** A job by its id, by its URL, or as `submit` and `job` gave it. */
export type JobReference = string | URL | Pick<Job, 'id'>

export class JobClient {
  readonly #root: string
  readonly #options: JobClientOptions

  /**
   * @param url of the root of the API, or the options with it
   * @throws ManyhostError MANYHOST_INVALID_OPTION
   */
  constructor(url: string | URL | JobClientOptions, options: JobClientOptions = {}) {
    const isUrl = typeof url === 'string' || url instanceof URL
    this.#options = isUrl ? options : url
    const given = isUrl ? url : url?.url
    const root = given instanceof URL ? given.href : given
    if (typeof root !== 'string' || !/^https?:/.test(root) || !URL.canParse(root)) {
      const text = `JobClient: url must be an http or https URL, got ${describe(root)}`
      throw new ManyhostError('MANYHOST_INVALID_OPTION', text)
    }
    this.#root = root.replace(/\/+$/, '')
  }

  /** Registers a service. Resolves with its URL, which is what its workers are given. */
  async newService(service: NewServiceOptions): Promise<string> {
    const { timeout, token } = service
    const { headers } = await this.#request('POST', '/services', 201, {
      name: service.name,
      description: service.description ?? '',
      job_registration_schema: service.jobRegistrationSchema ?? { type: 'object' },
      job_result_schema: service.jobResultSchema ?? { type: 'object' },
      ...(timeout !== undefined && { timeout: timeout / 1_000 }),
      ...(token !== undefined && { token }),
    })
    const id = String(headers.location).split('/').at(-1)
    return `${this.#root}/services/${id}`
  }

  /**
   * Gives a service a job, which is kept when this resolves.
   * @param service its URL, as `newService` gives it, or its id
   */
  async submit(service: string | URL, parameters: object): Promise<Job> {
    const path = `${this.#resolvePath('services', service)}/jobs`
    return parseJob(await this.#request('POST', path, 201, { parameters }))
  }

  async job(job: JobReference): Promise<Job> {
    return parseJob(await this.#request('GET', this.#resolvePath('jobs', job), 200))
  }

  async cancel(job: JobReference): Promise<Job> {
    return parseJob(await this.#request('DELETE', this.#resolvePath('jobs', job), 200))
  }

  /** @throws ManyhostError MANYHOST_INVALID_OPTION for a URL of another server, and for what names nothing */
  #resolvePath(list: 'services' | 'jobs', named: JobReference): string {
    const root = `${this.#root}/${list}/`
    const given = toReferenceText(named)
    if (given === undefined || given === '') {
      const text = `JobClient: expected an id or a URL that begins with ${root}, got ${describe(named)}`
      throw new ManyhostError('MANYHOST_INVALID_OPTION', text)
    }
    const id = given.startsWith(root) ? given.slice(root.length).replace(/\/+$/, '') : given
    if (!id.includes('/')) return `/${list}/${encodeURIComponent(id)}`
    const text = `JobClient: ${JSON.stringify(given)} is neither an id nor a URL that begins with ${root}`
    throw new ManyhostError('MANYHOST_INVALID_OPTION', text)
  }

  /**
   * Resolves with the results.
   * @param timeout milliseconds
   * @throws ManyhostError MANYHOST_BAD_STATUS if it ended as ERROR, MANYHOST_TIMEOUT
   */
  async results(named: JobReference, timeout = Number.POSITIVE_INFINITY): Promise<unknown> {
    const deadline = now() + timeout
    for (;;) {
      const job = await this.job(named)
      const { id } = job
      if (job.status === 'COMPLETED') return job.results
      if (job.status === 'ERROR') {
        throw new ManyhostError('MANYHOST_BAD_STATUS', `job ${id} failed: ${job.reason}`)
      }
      const left = deadline - now()
      if (left <= 0) {
        throw new ManyhostError(
          'MANYHOST_TIMEOUT',
          `job ${id} is ${job.status} after ${timeout} ms`,
        )
      }
      await sleep(Math.min(left, this.#options.interval ?? 1_000))
    }
  }

  async #request(
    method: 'GET' | 'POST' | 'DELETE',
    path: string,
    expected: number,
    json?: object,
  ): Promise<PullResponse> {
    const what = `${method} ${path}`
    let answer: PullResponse
    try {
      answer = await sendApiRequest(`${this.#root}${path}`, this.#options, {
        method,
        text: json && JSON.stringify(json),
      })
    } catch (error) {
      throw toUnreachableError(what, error)
    }
    if (answer.status !== expected) throw toStatusError(what, answer)
    return answer
  }
}

function toReferenceText(named: JobReference | undefined): string | undefined {
  if (named instanceof URL) return named.href
  const text: unknown = typeof named === 'object' ? named?.id : named
  return typeof text === 'string' ? text : undefined
}

function parseJob({ body }: PullResponse): Job {
  const data = body?.data as Omit<Job, 'isComplete'>
  const { id, status, parameters, results, reason = null } = data
  const isComplete = status === 'COMPLETED' || status === 'ERROR'
  return { id, status, isComplete, parameters, results, reason }
}

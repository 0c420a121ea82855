/** For programs that give work to services of the API, and wait for what comes of it. */
import { ManyhostError } from '../../src/errors.ts'
import { now, sleep } from '../../src/time.ts'
import { type Answer, ask, type LinkOptions, refused, unreachable } from './link.ts'

export interface JobClientOptions extends LinkOptions {
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

export class JobClient {
  readonly #root: string
  readonly #options: JobClientOptions

  /** @param url of the root of the API */
  constructor(url: string, options: JobClientOptions = {}) {
    this.#root = url.replace(/\/+$/, '')
    this.#options = options
  }

  /** Registers a service. Resolves with its URL, which is what its workers are given. */
  async newService(service: NewServiceOptions): Promise<string> {
    const { timeout, token } = service
    const { headers } = await this.#ask('POST', '/services', 201, {
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

  /** Gives a service a job, which is kept when this resolves. */
  async submit(serviceId: string, parameters: object): Promise<Job> {
    return read(await this.#ask('POST', `/services/${serviceId}/jobs`, 201, { parameters }))
  }

  async job(id: string): Promise<Job> {
    return read(await this.#ask('GET', `/jobs/${id}`, 200))
  }

  async cancel(id: string): Promise<Job> {
    return read(await this.#ask('DELETE', `/jobs/${id}`, 200))
  }

  /**
   * Resolves with the results.
   * @param timeout milliseconds
   * @throws ManyhostError MANYHOST_BAD_STATUS if it ended as ERROR, MANYHOST_TIMEOUT
   */
  async results(id: string, timeout = Number.POSITIVE_INFINITY): Promise<unknown> {
    const deadline = now() + timeout
    for (;;) {
      const job = await this.job(id)
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

  async #ask(
    method: 'GET' | 'POST' | 'DELETE',
    path: string,
    expected: number,
    json?: object,
  ): Promise<Answer> {
    const what = `${method} ${path}`
    let answer: Answer
    try {
      answer = await ask(`${this.#root}${path}`, this.#options, { method, json })
    } catch (error) {
      throw unreachable(what, error)
    }
    if (answer.status !== expected) throw refused(what, answer)
    return answer
  }
}

function read({ body }: Answer): Job {
  const data = body?.data as Omit<Job, 'isComplete'>
  const { id, status, parameters, results, reason = null } = data
  const isComplete = status === 'COMPLETED' || status === 'ERROR'
  return { id, status, isComplete, parameters, results, reason }
}

/** The calls of a worker: check in, ask for a job, report on a job. */
import {
  type PullClientOptions,
  type PullClientRequest,
  type PullResponse,
  sendApiRequest,
  toStatusError,
} from './api-client.ts'
import { LEASE_HEADER, WORKER_HEADER } from './worker-headers.ts'

/** Paths at which a server gives out jobs: the first is manyhost's, the second is the original's. */
const NEXT_PATHS = ['/next', '/jobs/next'] as const

/** How much longer than its long poll a request may take, in ms. */
const LONG_POLL_SLACK = 30_000

/** The report that the worker works on a job. It claims the job, or renews the lease. */
export const WORKING_REPORT = '{"status":"WORKING"}'

export class WorkerApi {
  readonly #url: string
  readonly #worker: string
  readonly #options: PullClientOptions
  /** Index in `NEXT_PATHS` of the path that the server knows. */
  #nextPath = 0

  /** @param url of the service @param worker the name of the worker */
  constructor(url: string, worker: string, options: PullClientOptions) {
    this.#url = url.replace(/\/+$/, '')
    this.#worker = worker
    this.#options = options
  }

  /** @throws ManyhostError MANYHOST_BAD_STATUS */
  async checkIn(): Promise<void> {
    const answer = await this.#send(this.#url, { method: 'PATCH' })
    if (answer.status !== 200) throw toStatusError('check-in', answer)
  }

  /** Resolves with the timeout of the service in ms, if the server says it. */
  async fetchTimeout(): Promise<number | undefined> {
    const { body } = await this.#send(this.#url, { method: 'GET' })
    const { timeout } = (body?.data ?? {}) as { timeout?: unknown }
    return typeof timeout === 'number' && timeout > 0 ? timeout * 1_000 : undefined
  }

  /**
   * Asks for a job. The original's server does not know `/next`, and answers 404 with a page that is not JSON. Then the
   * other path is asked, now and from now on.
   * @param wait milliseconds of the long poll; 0 for none
   */
  async requestJob(wait: number, signal: AbortSignal): Promise<PullResponse> {
    const seconds = Math.ceil(wait / 1_000)
    const ask = () =>
      this.#send(this.#url + NEXT_PATHS[this.#nextPath], {
        method: 'GET',
        signal,
        timeout: wait + LONG_POLL_SLACK,
        ...(seconds > 0 && { headers: { prefer: `wait=${seconds}` } }),
      })
    const answer = await ask()
    if (answer.status !== 404 || answer.body !== undefined) return answer
    this.#nextPath = 1 - this.#nextPath
    return ask()
  }

  /** @param lease '' where the server gave none @param report JSON text */
  patchJob(id: string, lease: string, report: string): Promise<PullResponse> {
    const [root] = this.#url.split('/services/')
    return this.#send(`${root}/jobs/${id}`, {
      method: 'PATCH',
      text: report,
      ...(lease !== '' && { headers: { [LEASE_HEADER]: lease } }),
    })
  }

  #send(url: string, request: PullClientRequest): Promise<PullResponse> {
    const headers = { [WORKER_HEADER]: this.#worker, ...request.headers }
    return sendApiRequest(url, this.#options, { ...request, headers })
  }
}

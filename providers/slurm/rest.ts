/** Uses Slurm by slurmrestd: over a unix socket, or over TCP with a token. */
import { readFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import type { Pool } from 'undici'
import { describeError } from '../../src/core/errors.ts'
import { createPatchedPool } from '../../src/core/http/patched-pool.ts'
import { excludeFromChildren } from '../../src/posix/environment.ts'
import { parseJsonObject } from '../shared/json-lines.ts'
import { isRecord } from '../shared/option-rules.ts'
import { jobEnvironment } from './commands.ts'
import type { SlurmController, SlurmJob, SlurmSubmission } from './controller.ts'
import type { SlurmSettings } from './options.ts'

/** Longest response, in characters: one response holds the jobs of a whole cluster. */
const MAX_ANSWER_CHARS = 256 * 1_048_576

export class SlurmRest implements SlurmController {
  readonly #settings: SlurmSettings
  readonly #pool: Pool

  constructor(settings: SlurmSettings) {
    this.#settings = settings
    const { rest = '' } = settings
    const timeouts = { headersTimeout: 30_000, bodyTimeout: 30_000, connections: 8, pipelining: 1 }
    this.#pool = rest.startsWith('unix:')
      ? createPatchedPool('http://localhost', {
          ...timeouts,
          connect: { socketPath: rest.slice(5) },
        })
      : createPatchedPool(new URL(rest).origin, timeouts)
  }

  async submit({ name, script, comment, cpus, memory }: SlurmSubmission): Promise<string> {
    const { partition, account, qos, constraint, timeLimit } = this.#settings
    const { job_id: id } = await this.#request('POST', 'job/submit', {
      script,
      job: {
        name,
        comment,
        partition,
        account,
        qos,
        constraints: constraint,
        time_limit: timeLimit,
        cpus_per_task: cpus,
        // A number of MiB.
        memory_per_node: memory === undefined ? undefined : Math.ceil(memory / 1_048_576),
        tasks: 1,
        requeue: false,
        standard_output: '/dev/null',
        standard_error: '/dev/null',
        current_working_directory: '/',
        environment: jobEnvironment(),
      },
    })
    if (!Number.isSafeInteger(id)) throw new Error(`slurmrestd gave no job number: ${String(id)}`)
    return String(id)
  }

  async listJobs(): Promise<readonly SlurmJob[]> {
    const { jobs } = await this.#request('GET', 'jobs')
    const { uid } = userInfo()
    return (Array.isArray(jobs) ? jobs : [])
      .filter((job): job is Record<string, unknown> => isRecord(job) && job.user_id === uid)
      .map((job) => ({
        id: String(job.job_id),
        name: String(job.name),
        state: parseJobState(job.job_state),
        reason: String(job.state_reason ?? ''),
        comment: String(job.comment ?? ''),
      }))
  }

  async cancel(ids: readonly string[], force: boolean): Promise<void> {
    const query = force ? '?signal=KILL' : ''
    // slurmrestd answers with an error for a job that has ended already.
    const results = await Promise.allSettled(
      ids.map((id) => this.#request('DELETE', `job/${id}${query}`)),
    )
    const failed = results.find(({ status }) => status === 'rejected') as PromiseRejectedResult
    if (failed && !/already|invalid job id/i.test(describeError(failed.reason))) throw failed.reason
  }

  close(): void {
    void this.#pool.destroy()
  }

  async #request(method: 'GET' | 'POST' | 'DELETE', path: string, body?: object) {
    const { restVersion } = this.#settings
    const { statusCode, body: answer } = await this.#pool.request({
      method,
      path: `/slurm/${restVersion}/${path}`,
      headers: { ...this.#credentials(), ...(body && { 'content-type': 'application/json' }) },
      ...(body && { body: JSON.stringify(body) }),
    })
    let text = ''
    for await (const chunk of answer.setEncoding('utf8')) {
      text += chunk
      if (text.length > MAX_ANSWER_CHARS)
        throw new Error(
          `slurmrestd: ${method} ${path}: the response has more than ${MAX_ANSWER_CHARS} characters`,
        )
    }
    const parsed = parseJsonObject(text) ?? {}
    const errors = Array.isArray(parsed.errors) ? parsed.errors : []
    if (statusCode >= 400 || errors.length > 0) {
      const why = errors
        .map((one) => (isRecord(one) ? (one.error ?? one.description) : one))
        .join('; ')
      throw new Error(`slurmrestd: ${method} ${path}: ${statusCode} ${why || text.slice(0, 200)}`)
    }
    return parsed
  }

  /** Read for each request, because tokens expire. */
  #credentials(): Record<string, string> {
    const { tokenFile } = this.#settings
    if (!tokenFile) excludeFromChildren('SLURM_JWT')
    const token = tokenFile ? readFileSync(tokenFile, 'utf8').trim() : process.env.SLURM_JWT
    if (!token || token === 'daemon') return {}
    return {
      'x-slurm-user-name': userInfo().username,
      'x-slurm-user-token': token.replace(/^SLURM_JWT=/, ''),
    }
  }
}

/** Later versions give a list of states: first the state of the job, then what is done to it, such as COMPLETING. */
export function parseJobState(given: unknown): string {
  const states = Array.isArray(given) ? given : [given]
  return String(states.includes('COMPLETING') ? 'COMPLETING' : states.at(-1))
}

/** Slurm by slurmrestd: over a unix socket, or TCP with a token. */
import { readFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import type { Pool } from 'undici'
import { describe } from '../../src/core/errors.ts'
import { steadyPool } from '../../src/core/http/pool.ts'
import { keepToOurselves } from '../../src/posix/environment.ts'
import { isRecord } from '../far/options.ts'
import { environment } from './commands.ts'
import type { Controller, Job, Submission } from './controller.ts'
import type { Settings } from './options.ts'

/** Longest answer, in bytes: the jobs of a whole cluster come in one. */
const MOST_ANSWER = 256 * 1_048_576

export class Rest implements Controller {
  readonly #settings: Settings
  readonly #pool: Pool

  constructor(settings: Settings) {
    this.#settings = settings
    const { rest = '' } = settings
    const timeouts = { headersTimeout: 30_000, bodyTimeout: 30_000, connections: 8, pipelining: 1 }
    this.#pool = rest.startsWith('unix:')
      ? steadyPool('http://localhost', { ...timeouts, connect: { socketPath: rest.slice(5) } })
      : steadyPool(new URL(rest).origin, timeouts)
  }

  async submit({ name, script, comment, cpus, memory }: Submission): Promise<string> {
    const { partition, account, qos, constraint, timeLimit } = this.#settings
    const { job_id: id } = await this.#ask('POST', 'job/submit', {
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
        // In MiB, a number alone.
        memory_per_node: memory === undefined ? undefined : Math.ceil(memory / 1_048_576),
        tasks: 1,
        requeue: false,
        standard_output: '/dev/null',
        standard_error: '/dev/null',
        current_working_directory: '/',
        environment: environment(),
      },
    })
    if (!Number.isSafeInteger(id)) throw new Error(`slurmrestd gave no job number: ${String(id)}`)
    return String(id)
  }

  async jobs(): Promise<readonly Job[]> {
    const { jobs } = await this.#ask('GET', 'jobs')
    const { uid } = userInfo()
    return (Array.isArray(jobs) ? jobs : [])
      .filter((job): job is Record<string, unknown> => isRecord(job) && job.user_id === uid)
      .map((job) => ({
        id: String(job.job_id),
        name: String(job.name),
        state: stateOf(job.job_state),
        reason: String(job.state_reason ?? ''),
        comment: String(job.comment ?? ''),
      }))
  }

  async cancel(ids: readonly string[], force: boolean): Promise<void> {
    const query = force ? '?signal=KILL' : ''
    // Of those that have ended it says an error.
    const results = await Promise.allSettled(
      ids.map((id) => this.#ask('DELETE', `job/${id}${query}`)),
    )
    const failed = results.find(({ status }) => status === 'rejected') as PromiseRejectedResult
    if (failed && !/already|invalid job id/i.test(describe(failed.reason))) throw failed.reason
  }

  close(): void {
    void this.#pool.destroy()
  }

  async #ask(method: 'GET' | 'POST' | 'DELETE', path: string, body?: object) {
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
      if (text.length > MOST_ANSWER) throw new Error(`slurmrestd: more than ${MOST_ANSWER} bytes`)
    }
    const parsed = parse(text)
    const errors = Array.isArray(parsed.errors) ? parsed.errors : []
    if (statusCode >= 400 || errors.length > 0) {
      const why = errors
        .map((one) => (isRecord(one) ? (one.error ?? one.description) : one))
        .join('; ')
      throw new Error(`slurmrestd: ${method} ${path}: ${statusCode} ${why || text.slice(0, 200)}`)
    }
    return parsed
  }

  /** Read anew for each request: tokens are made to expire. */
  #credentials(): Record<string, string> {
    const { tokenFile } = this.#settings
    if (!tokenFile) keepToOurselves('SLURM_JWT')
    const token = tokenFile ? readFileSync(tokenFile, 'utf8').trim() : process.env.SLURM_JWT
    if (!token || token === 'daemon') return {}
    return {
      'x-slurm-user-name': userInfo().username,
      'x-slurm-user-token': token.replace(/^SLURM_JWT=/, ''),
    }
  }
}

/** Later versions say a list of them: first what it is or ended as, then what happens to it, as that it completes. */
export function stateOf(said: unknown): string {
  const states = Array.isArray(said) ? said : [said]
  return String(states.includes('COMPLETING') ? 'COMPLETING' : states.at(-1))
}

function parse(text: string): Readonly<Record<string, unknown>> {
  try {
    const parsed: unknown = JSON.parse(text)
    return isRecord(parsed) ? parsed : {}
  } catch {
    return {}
  }
}

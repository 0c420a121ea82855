/** Brings the outcome of a job to the hub, and tries again when the hub cannot be reached or refuses a report. */
import { backoffDelay } from '../../src/core/backoff.ts'
import type { ManyhostError } from '../../src/core/errors.ts'
import { sleep } from '../../src/core/time.ts'
import { RETRY_DELAY, toStatusError, toUnreachableError } from './api-client.ts'
import { createErrorReports, type JobReports } from './job-reports.ts'
import type { WorkerApi } from './worker-api.ts'

/** Statuses with which a server refuses the content of a report, so that it may take another report. */
const REFUSED_STATUSES: ReadonlySet<number> = new Set([400, 413, 422])

/** Tries to send one report. With the waits between them they take about a minute and a half. */
const MAX_TRIES = 10

export interface ClaimedJob {
  readonly id: string
  readonly lease: string
  /** Bytes of the largest report that the server takes. */
  readonly maxReportSize: number
}

/**
 * Sends the first report that the server takes. When the server refuses the results, the job is reported as failed:
 * otherwise nobody would learn that it has ended.
 * @param onRefused called with the error of each report after which another one is tried
 * @throws ManyhostError when the server has taken none
 */
export async function reportOutcome(
  api: WorkerApi,
  job: ClaimedJob,
  [report, ...others]: JobReports,
  onRefused: (error: ManyhostError) => void,
): Promise<void> {
  let error = await sendReport(api, job, report, MAX_TRIES)
  if (!error) return
  for (const other of others.length > 0 ? others : createErrorReports(error, job.maxReportSize)) {
    if (!REFUSED_STATUSES.has(error.status) && !error.retryable) break
    onRefused(error)
    // A server that could not be reached in ten tries gets one more, for the short report.
    error = await sendReport(api, job, other, error.retryable ? 1 : MAX_TRIES)
    if (!error) return
  }
  throw error
}

/** Resolves with the reason why the server has not taken the report, or with `undefined` when it has. */
async function sendReport(
  api: WorkerApi,
  { id, lease }: ClaimedJob,
  report: string,
  maxTries: number,
): Promise<ManyhostError | undefined> {
  const what = `result of job ${id}`
  for (let failures = 0; ; failures++) {
    let error: ManyhostError
    try {
      const answer = await api.patchJob(id, lease, report)
      if (answer.status === 200) return undefined
      error = toStatusError(what, answer)
    } catch (thrown) {
      error = toUnreachableError(what, thrown)
    }
    if (!error.retryable || failures + 1 >= maxTries) return error
    await sleep(backoffDelay(failures, RETRY_DELAY, Math.random))
  }
}

/** How answers look: `data`, `meta` with the schemas of what may be sent, `links`; or `errors`. */
import type { JobClaim } from './claims.ts'
import type { JobRow } from './job-store.ts'
import { META } from './meta.ts'
import type { OpenJob } from './open-job.ts'
import type { PullService } from './pull-service.ts'

export interface PullApiReply {
  readonly status: number
  /** Goes out as JSON; nothing where it is undefined. */
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
}

/** ISO 8601. */
export function formatTimestamp(milliseconds: number): string {
  return new Date(milliseconds).toISOString()
}

export function toJobSummary({
  id,
  submitted,
  status,
}: Pick<JobRow, 'id' | 'submitted' | 'status'>) {
  return { id, date_submitted: formatTimestamp(submitted), status }
}

export interface PullJobView {
  readonly id: string
  readonly submitted: number
  readonly status: JobRow['status']
  readonly parameters: string
  readonly results?: string | undefined
  readonly reason?: string | undefined
}

export function toJobBody(job: PullJobView): object {
  const { id, submitted, status, parameters, results, reason } = job
  return {
    date_submitted: formatTimestamp(submitted),
    id,
    parameters: JSON.parse(parameters),
    results: results === undefined ? null : JSON.parse(results),
    status,
    ...(status === 'ERROR' && { reason: reason ?? null }),
  }
}

/**
 * What a claim says beside the job: for how long it holds, and for a request, what it was.
 * @param seconds for which it holds
 * @param bodySize bytes of the largest answer that is taken
 */
export function toClaimMeta({ job, lease }: JobClaim, seconds: number, bodySize: number): object {
  const { request: call } = job
  return {
    ...META.next,
    lease: { token: lease, seconds, body_size: bodySize },
    ...(call && { request: { method: call.input.method, path: call.input.path } }),
  }
}

export function toJobView(job: OpenJob, parameters: string): PullJobView {
  const { id, submitted, status, results } = job
  return { id, submitted, status, parameters, results }
}

export function toServiceSummary({ row }: PullService): object {
  const { id, name, description } = row
  return { id, name, description }
}

export function toServiceBody(service: PullService, jobs: readonly object[]): object {
  const { row, silenceMs: silence } = service
  return {
    description: row.description,
    has_timed_out: silence > row.timeout,
    id: row.id,
    is_service_available: row.available === true,
    job_registration_schema: JSON.parse(row.registration),
    job_result_schema: JSON.parse(row.result),
    jobs,
    name: row.name,
    timeout: row.timeout / 1_000,
  }
}

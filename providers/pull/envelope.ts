/** The form of answers: `data`, `meta` with the schemas of what may be sent, and `links`; or `errors`. */
import type { JobClaim } from './claims.ts'
import type { JobRow } from './job-store.ts'
import { META } from './meta.ts'
import type { OpenJob } from './open-job.ts'
import type { PullService } from './pull-service.ts'

export interface PullApiReply {
  readonly status: number
  /** Sent as JSON; undefined for an answer without a body. */
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
}

/** In the form of ISO 8601. */
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
 * The `meta` of a claim: the lease, and the request that the job stands for.
 * @param seconds for which the claim holds without a sign of life
 * @param bodySize bytes of the largest report that the hub takes
 */
export function toClaimMeta({ job, lease }: JobClaim, seconds: number, bodySize: number): object {
  const { request } = job
  return {
    ...META.next,
    lease: { token: lease, seconds, body_size: bodySize },
    ...(request && { request: { method: request.input.method, path: request.input.path } }),
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
  const { row, silenceMs } = service
  return {
    description: row.description,
    has_timed_out: silenceMs > row.timeout,
    id: row.id,
    is_service_available: row.available === true,
    job_registration_schema: JSON.parse(row.registration),
    job_result_schema: JSON.parse(row.result),
    jobs,
    name: row.name,
    timeout: row.timeout / 1_000,
  }
}

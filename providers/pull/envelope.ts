/** How answers look: `data`, `meta` with the schemas of what may be sent, `links`; or `errors`. */
import type { Claim } from './claims.ts'
import type { Job } from './job.ts'
import type { Service } from './service.ts'
import type { JobRow, ServiceRow } from './store.ts'

export interface Reply {
  readonly status: number
  /** Goes out as JSON; nothing where it is undefined. */
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
}

const TEXT = { type: 'string' } as const
const OBJECT = { type: 'object' } as const
const UUID = { type: 'string', format: 'uuid' } as const
const STATUS = { enum: ['REGISTERED', 'WORKING', 'COMPLETED', 'ERROR'] } as const

export const LIMITS = { name: 30, description: 1_000, token: 200 } as const

const FIELDS = {
  name: { type: 'string', minLength: 1, maxLength: LIMITS.name },
  description: { type: 'string', maxLength: LIMITS.description },
  timeout: { type: 'number', minimum: 0, description: 'seconds' },
} as const

export const META = {
  services: {
    new_service_schema: {
      title: 'New Service Schema',
      type: 'object',
      properties: {
        name: FIELDS.name,
        description: FIELDS.description,
        job_registration_schema: OBJECT,
        job_result_schema: OBJECT,
        timeout: FIELDS.timeout,
        token: { type: 'string', minLength: 1, maxLength: LIMITS.token },
      },
      required: ['name', 'description', 'job_registration_schema', 'job_result_schema'],
    },
    service_schema: {
      title: 'Service Overview Schema',
      type: 'object',
      properties: { id: UUID, name: TEXT, description: TEXT },
    },
  },
  service: {
    service_schema: {
      title: 'Service Schema',
      type: 'object',
      properties: {
        ...FIELDS,
        id: UUID,
        has_timed_out: { type: 'boolean' },
        is_service_available: { type: 'boolean' },
        job_registration_schema: OBJECT,
        job_result_schema: OBJECT,
        jobs: { type: 'array', items: OBJECT },
      },
    },
    patch_schema: {
      title: 'Modify Service Schema',
      type: 'object',
      properties: { ...FIELDS, is_available: { type: 'boolean' } },
    },
  },
  job: {
    job_info_schema: {
      title: 'Job Schema',
      type: 'object',
      properties: {
        id: UUID,
        date_submitted: { type: 'string', format: 'date-time' },
        status: STATUS,
        parameters: OBJECT,
        results: { type: ['object', 'null'] },
      },
    },
    patch_request_schema: {
      title: 'Job Modification Schema',
      type: 'object',
      properties: {
        status: STATUS,
        results: OBJECT,
        reason: { type: 'string', description: 'why it ended as ERROR' },
      },
    },
  },
  validator: {
    schema: {
      title: 'Validator Request Schema',
      type: 'object',
      properties: { schema: OBJECT, object: OBJECT },
      required: ['schema', 'object'],
    },
  },
} as const

/** Meta of the jobs of a service: what a new one must look like. */
export function newJobSchema({ registration }: ServiceRow): object {
  return {
    new_job_schema: {
      title: 'New Job Schema',
      type: 'object',
      properties: { parameters: JSON.parse(registration) },
      required: ['parameters'],
    },
  }
}

/** ISO 8601. */
export function stamp(milliseconds: number): string {
  return new Date(milliseconds).toISOString()
}

export function jobLine({ id, submitted, status }: Pick<JobRow, 'id' | 'submitted' | 'status'>) {
  return { id, date_submitted: stamp(submitted), status }
}

export interface JobView {
  readonly id: string
  readonly submitted: number
  readonly status: JobRow['status']
  readonly parameters: string
  readonly results?: string | undefined
  readonly reason?: string | undefined
}

export function jobBody(job: JobView): object {
  const { id, submitted, status, parameters, results, reason } = job
  return {
    date_submitted: stamp(submitted),
    id,
    parameters: JSON.parse(parameters),
    results: results === undefined ? null : JSON.parse(results),
    status,
    ...(status === 'ERROR' && { reason: reason ?? null }),
  }
}

/** What a claim says beside the job: for how long it holds, and for a request, what it was. */
export function claimMeta({ job, lease }: Claim, seconds: number): object {
  const { call } = job
  return {
    lease: { token: lease, seconds },
    ...(call && { request: { method: call.facts.method, path: call.facts.path } }),
  }
}

export function openView(job: Job, parameters: string): JobView {
  const { id, submitted, status } = job
  return { id, submitted, status, parameters }
}

export function serviceLine({ row }: Service): object {
  const { id, name, description } = row
  return { id, name, description }
}

export function serviceBody(service: Service, jobs: readonly object[]): object {
  const { row, silence } = service
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

/**
 * The JSON Schemas that answers carry in `meta`. They are the original's, member by member, because its clients show and
 * compare them. So where the original says `string` for a timeout that is a number, this file does, too. What manyhost
 * takes in addition is in schemas of its own: `options_schema` and `patch_schema`.
 */

import { JOB_STATUSES, SERVICE_TEXT_LIMITS } from './job-limits.ts'
import type { ServiceRow } from './job-store.ts'

const $schema = 'http://json-schema.org/draft-04/schema#'

const shown = (title: string, type: string, format?: string) => ({
  ...(format && { format }),
  readonly: true,
  title,
  type,
})
const named = (title: string, type: string) => ({ title, type })
const status = { enum: [...JOB_STATUSES], type: 'string' }

/** One job in a list. */
const jobLine = {
  date_submitted: shown('date_submitted', 'string', 'date-time'),
  id: shown('id', 'string', 'uuid'),
  status,
}
const jobProperties = {
  date_submitted: { format: 'date-time', title: 'date_submitted', type: 'string' },
  id: { format: 'uuid', title: 'id', type: 'string' },
  parameters: named('parameters', 'object'),
  results: named('results', 'object'),
  status,
}
const jobRequired = ['id', 'parameters', 'results', 'status']

function job(title: string, description: string): object {
  return {
    $schema,
    description,
    properties: jobProperties,
    required: jobRequired,
    title,
    type: 'object',
  }
}

function list(title: string, description: string, items: object): object {
  return { $schema, description, items, title, type: 'array' }
}

const DATA = 'The schema for reading data contained in the data key of this response'
const ALL_OF_JOB = 'The schema for all displayable data for a job'

const about = [
  'documentation_url',
  'maintainer_email',
  'maintainer_name',
  'source_code_repository_url',
  'version',
]

/** Milliseconds go to nobody here: the API has seconds. */
const timeout = { type: 'number', minimum: 0, description: 'seconds' }

export const META = {
  about: {
    schema: {
      $schema,
      description: 'Describes the JSON schema for describing API metadata',
      properties: Object.fromEntries(about.map((name) => [name, shown(name, 'string')])),
      required: about,
      title: 'API Metadata',
      type: 'object',
    },
  },
  services: {
    new_service_schema: {
      $schema,
      description: 'The schema that must be satisfied in order to post a new service',
      properties: {
        description: named('description', 'string'),
        job_registration_schema: named('job_registration_schema', 'object'),
        job_result_schema: named('job_result_schema', 'object'),
        name: named('name', 'string'),
      },
      required: ['description', 'job_registration_schema', 'job_result_schema', 'name'],
      title: 'New Service Schema',
      type: 'object',
    },
    service_schema: {
      $schema,
      description: 'The schema for each entry in the services list',
      properties: {
        description: shown('description', 'string'),
        id: shown('id', 'string', 'uuid'),
        name: shown('name', 'string'),
      },
      required: ['description', 'id', 'name'],
      title: 'Service overview schema',
      type: 'object',
    },
    options_schema: {
      title: 'Optional members of a new service, and limits of the others',
      type: 'object',
      properties: {
        name: { type: 'string', minLength: 1, maxLength: SERVICE_TEXT_LIMITS.name },
        description: { type: 'string', maxLength: SERVICE_TEXT_LIMITS.description },
        timeout,
        token: { type: 'string', minLength: 1, maxLength: SERVICE_TEXT_LIMITS.token },
      },
    },
  },
  service: {
    service_schema: {
      $schema,
      description: 'A comprehensive schema for displaying services',
      properties: {
        description: shown('description', 'string'),
        has_timed_out: shown('has_timed_out', 'boolean'),
        id: shown('id', 'string', 'uuid'),
        is_service_available: shown('is_service_available', 'boolean'),
        job_registration_schema: shown('job_registration_schema', 'object'),
        job_result_schema: shown('job_result_schema', 'object'),
        jobs: {
          items: {
            properties: jobLine,
            required: ['date_submitted', 'id', 'status'],
            type: 'object',
          },
          type: ['array', 'null'],
        },
        name: shown('name', 'string'),
        timeout: shown('timeout', 'string'),
      },
      required: [
        'description',
        'has_timed_out',
        'id',
        'is_service_available',
        'job_registration_schema',
        'job_result_schema',
        'name',
        'timeout',
      ],
      title: 'Detailed Service Schema',
      type: 'object',
    },
    patch_schema: {
      title: 'Modify Service Schema',
      type: 'object',
      properties: {
        name: { type: 'string', minLength: 1, maxLength: SERVICE_TEXT_LIMITS.name },
        description: { type: 'string', maxLength: SERVICE_TEXT_LIMITS.description },
        timeout,
        is_available: { type: 'boolean' },
      },
    },
  },
  queue: {
    data_schema: list('Job List Schema', 'The schema for the data in the "data" key', {
      $schema,
      properties: jobProperties,
      required: jobRequired,
      type: 'object',
    }),
  },
  jobs: {
    data_schema: list(
      'Job Endpoint Schema',
      'Describes how jobs are presented in the "data" endpoint',
      {
        $schema,
        properties: jobLine,
        required: ['date_submitted', 'id', 'status'],
        type: 'object',
      },
    ),
  },
  next: { job_schema: job('Job Schema', 'The schema representing the job') },
  job: {
    job_info_schema: job('Detailed Job Schema', ALL_OF_JOB),
    patch_request_schema: {
      $schema,
      description: ALL_OF_JOB,
      properties: { results: named('results', 'object'), status },
      required: [],
      title: 'Detailed Job Schema',
      type: 'object',
    },
    options_schema: {
      title: 'Optional members of a change of a job',
      type: 'object',
      properties: { reason: { type: 'string', description: 'why it ended as ERROR' } },
    },
  },
  validator: {
    schema: {
      $schema,
      title: 'Validator Request Schema',
      type: 'object',
      properties: { schema: { type: 'object' }, object: { type: 'object' } },
      required: ['schema', 'object'],
    },
  },
} as const

/** Meta of the list of a service's jobs: how they look, and what a new one must look like. */
export function toJobsMeta({ registration }: ServiceRow): object {
  return {
    data_schema: list('Data Schema', DATA, job('Data Schema', DATA)),
    new_job_schema: {
      $schema,
      description: 'The schema that a POST request must satisfy in order to create a new job',
      properties: { parameters: JSON.parse(registration) },
      title: 'New Job Schema',
      type: 'object',
    },
  }
}

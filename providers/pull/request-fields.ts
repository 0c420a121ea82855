/** What clients send, field by field. The answer has one error for each field that is wrong. */
import { JOB_STATUSES, MAX_REASON_LENGTH, SERVICE_TEXT_LIMITS } from './job-limits.ts'
import type { JobStatus } from './job-store.ts'
import { createNotJson, isMapping, type ParsedJson, Refusal, type ReplyError } from './json.ts'
import { requireValidSchema } from './schema-checks.ts'

/** About 32 years: longer than any worker is silent. */
const MAX_TIMEOUT_SECONDS = 1_000_000_000

/** Checks of fields, by name. A check returns what is wrong with the value, or undefined. */
type FieldChecks = Readonly<Record<string, (value: unknown) => string | undefined>>

const checkText =
  (maxLength: number, minLength = 0) =>
  (value: unknown) =>
    typeof value !== 'string'
      ? 'Not a valid string.'
      : value.length < minLength || value.length > maxLength
        ? `Length must be between ${minLength} and ${maxLength}.`
        : undefined
const checkJobStatus = (value: unknown) =>
  JOB_STATUSES.includes(value as JobStatus) ? undefined : 'Unknown value for job status enum'
const checkMapping = (value: unknown) =>
  isMapping(value) ? undefined : 'Not a valid mapping type.'
const checkSeconds = (value: unknown) =>
  typeof value !== 'number' || value > MAX_TIMEOUT_SECONDS
    ? 'Not a valid number.'
    : value < 0
      ? 'Attempted to set a negative timeout duration'
      : undefined
const checkFlag = (value: unknown) =>
  typeof value === 'boolean' ? undefined : 'Not a valid boolean.'

const NEW_SERVICE_FIELDS: FieldChecks = {
  name: checkText(SERVICE_TEXT_LIMITS.name, 1),
  description: checkText(SERVICE_TEXT_LIMITS.description),
  job_registration_schema: checkMapping,
  job_result_schema: checkMapping,
}
const NEW_SERVICE_OPTIONAL_FIELDS: FieldChecks = {
  timeout: checkSeconds,
  token: checkText(SERVICE_TEXT_LIMITS.token, 1),
}
const SERVICE_PATCH_FIELDS: FieldChecks = {
  name: checkText(SERVICE_TEXT_LIMITS.name, 1),
  description: checkText(SERVICE_TEXT_LIMITS.description),
  timeout: checkSeconds,
  is_available: checkFlag,
}

/** @throws Refusal 400 with an error for each field that is missing or wrong */
function checkFields(
  value: unknown,
  required: FieldChecks,
  optional: FieldChecks = {},
): Readonly<Record<string, unknown>> {
  if (!isMapping(value)) throw createNotJson()
  const faults: ReplyError[] = []
  const fail = (key: string, why: string): void => {
    const detail = `Valdation of key '${key}' threw error '['${why}']'.`
    faults.push({ title: 'Deserialization Error From Client Data', detail, status_code: 400 })
  }
  for (const [key, check] of Object.entries(required)) {
    const why = Object.hasOwn(value, key) ? check(value[key]) : 'Missing data for required field.'
    if (why) fail(key, why)
  }
  for (const [key, check] of Object.entries(optional)) {
    const why = Object.hasOwn(value, key) ? check(value[key]) : undefined
    if (why) fail(key, why)
  }
  if (faults.length > 0) throw new Refusal(faults)
  return value
}

export interface NewService {
  readonly name: string
  readonly description: string
  readonly job_registration_schema: object
  readonly job_result_schema: object
  readonly timeout?: number
  readonly token?: string
}

/** @throws Refusal 400, 503 */
export async function parseNewService(value: unknown): Promise<NewService> {
  const given = checkFields(
    value,
    NEW_SERVICE_FIELDS,
    NEW_SERVICE_OPTIONAL_FIELDS,
  ) as unknown as NewService
  await requireValidSchema(given.job_registration_schema, 'job_registration_schema')
  await requireValidSchema(given.job_result_schema, 'job_result_schema')
  return given
}

export interface ServicePatch {
  readonly name?: string
  readonly description?: string
  readonly timeout?: number
  readonly is_available?: boolean
}

export function parseServicePatch(value: unknown): ServicePatch {
  return checkFields(value, {}, SERVICE_PATCH_FIELDS) as ServicePatch
}

/** @throws Refusal 400 */
export function parseParameters({ value, count }: ParsedJson): ParsedJson {
  const { parameters } = checkFields(value, { parameters: checkMapping })
  return { value: parameters, count }
}

export interface JobPatch {
  readonly status: JobStatus | undefined
  readonly results: unknown
  readonly reason: string | undefined
}

/** @throws Refusal 400 */
export function parseJobPatch(value: unknown): JobPatch {
  if (!isMapping(value)) throw createNotJson()
  const { status, reason } = value
  // The first version of the API calls them `result`.
  const results = value.results ?? value.result ?? undefined
  checkFields(
    { status, results: results ?? {}, reason: reason ?? '' },
    { results: checkMapping, reason: checkText(Infinity) },
    status === undefined ? {} : { status: checkJobStatus },
  )
  return {
    status: status as JobPatch['status'],
    results,
    reason: typeof reason === 'string' ? reason.slice(0, MAX_REASON_LENGTH) : undefined,
  }
}

/** The body of a call of `/validator`. @throws Refusal 400 */
export function parseValidatorRequest({ value, count }: ParsedJson): {
  schema: object
  object: ParsedJson
} {
  const { schema, object } = checkFields(value, { schema: checkMapping, object: checkMapping })
  return { schema: schema as object, object: { value: object, count } }
}

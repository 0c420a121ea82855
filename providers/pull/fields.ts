/** What clients send, field by field: each that is wrong has an error of its own, all in one answer. */

import { type Fault, isMapping, notJson, type Parsed, Refusal } from './json.ts'
import { LIMITS } from './limits.ts'
import { acceptSchema } from './schema-checks.ts'

/** A day short of 32 years: longer than any worker is silent. */
const LONGEST_TIMEOUT = 1_000_000_000

/** Fields by name, each with what it may be: why it may not, or undefined. */
type Checks = Readonly<Record<string, (value: unknown) => string | undefined>>

const text =
  (longest: number, least = 0) =>
  (value: unknown) =>
    typeof value !== 'string'
      ? 'Not a valid string.'
      : value.length < least || value.length > longest
        ? `Length must be between ${least} and ${longest}.`
        : undefined
const jobStatus = (value: unknown) =>
  STATES.has(value as string) ? undefined : 'Unknown value for job status enum'
const mapping = (value: unknown) => (isMapping(value) ? undefined : 'Not a valid mapping type.')
const seconds = (value: unknown) =>
  typeof value !== 'number' || value > LONGEST_TIMEOUT
    ? 'Not a valid number.'
    : value < 0
      ? 'Attempted to set a negative timeout duration'
      : undefined
const STATES: ReadonlySet<string> = new Set(['REGISTERED', 'WORKING', 'COMPLETED', 'ERROR'])
const flag = (value: unknown) => (typeof value === 'boolean' ? undefined : 'Not a valid boolean.')

const NEW_SERVICE: Checks = {
  name: text(LIMITS.name, 1),
  description: text(LIMITS.description),
  job_registration_schema: mapping,
  job_result_schema: mapping,
}
const OPTIONAL_OF_NEW: Checks = { timeout: seconds, token: text(LIMITS.token, 1) }
const PATCH_SERVICE: Checks = {
  name: text(LIMITS.name, 1),
  description: text(LIMITS.description),
  timeout: seconds,
  is_available: flag,
}

/** @throws Refusal 400 with an error for each field that is missing or wrong */
function fields(
  value: unknown,
  required: Checks,
  optional: Checks = {},
): Readonly<Record<string, unknown>> {
  if (!isMapping(value)) throw notJson()
  const faults: Fault[] = []
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
export async function newService(value: unknown): Promise<NewService> {
  const given = fields(value, NEW_SERVICE, OPTIONAL_OF_NEW) as unknown as NewService
  await acceptSchema(given.job_registration_schema, 'job_registration_schema')
  await acceptSchema(given.job_result_schema, 'job_result_schema')
  return given
}

export interface ServicePatch {
  readonly name?: string
  readonly description?: string
  readonly timeout?: number
  readonly is_available?: boolean
}

export function servicePatch(value: unknown): ServicePatch {
  return fields(value, {}, PATCH_SERVICE) as ServicePatch
}

/** @throws Refusal 400 */
export function parametersOf({ value, count }: Parsed): Parsed {
  const { parameters } = fields(value, { parameters: mapping })
  return { value: parameters, count }
}

export interface JobPatch {
  readonly status: 'WORKING' | 'COMPLETED' | 'ERROR' | 'REGISTERED' | undefined
  readonly results: unknown
  readonly reason: string | undefined
}

const REASON = 2_000

/** @throws Refusal 400 */
export function jobPatch(value: unknown): JobPatch {
  if (!isMapping(value)) throw notJson()
  const { status, reason } = value
  // The first version's name for it was `result`.
  const results = value.results ?? value.result ?? undefined
  fields(
    { status, results: results ?? {}, reason: reason ?? '' },
    { results: mapping, reason: text(Infinity) },
    status === undefined ? {} : { status: jobStatus },
  )
  return {
    status: status as JobPatch['status'],
    results,
    reason: typeof reason === 'string' ? reason.slice(0, REASON) : undefined,
  }
}

/** What `/validator` is asked: neither part is kept. @throws Refusal 400 */
export function validatorQuestion({ value, count }: Parsed): { schema: object; object: Parsed } {
  const { schema, object } = fields(value, { schema: mapping, object: mapping })
  return { schema: schema as object, object: { value: object, count } }
}

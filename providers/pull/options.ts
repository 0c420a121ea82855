/** Options of `workers`, with their ranges and defaults. */
import type { Registry } from 'prom-client'
import { describe } from '../../src/core/describe.ts'
import { ManyhostError } from '../../src/core/errors.ts'
import {
  formatListenAddress,
  isLoopbackAddress,
  LISTEN_TEXT_FORMS,
  type ListenAddress,
  parseListenAddress,
} from '../../src/core/listen-address.ts'
import {
  checkOptions,
  milliseconds,
  nested,
  type ParsedOptions,
  parseOptions,
  record,
  rule,
  text,
  whole,
} from '../../src/core/options.ts'
import { SERVICE_TEXT_LIMITS } from './job-limits.ts'
import type { JobStore } from './job-store.ts'
import { Refusal } from './json.ts'
import { compileSchema } from './schema.ts'
import { CANONICAL_UUID } from './service-id.ts'

/** A service, as its workers and the clients of the API see it. Each one belongs to a virtual URL. */
export interface WorkersService {
  /** UUID. @default derived from the virtual URL, so that the same URL has the same id */
  readonly id?: string
  /** @default the virtual URL without its scheme */
  readonly name?: string
  readonly description?: string
  /** JSON Schema of the parameters. @default any object */
  readonly jobRegistrationSchema?: Readonly<Record<string, unknown>>
  /** JSON Schema of the results. @default any object */
  readonly jobResultSchema?: Readonly<Record<string, unknown>>
  /** Milliseconds for which a worker may be silent. @default 30000 */
  readonly timeout?: number
  /** Bearer token that opens this service, and no other. */
  readonly token?: string
}

/** docs/pull.md has a table of what each option means. */
export interface WorkersOptions {
  readonly listen?: string | number
  readonly prefix?: string
  readonly tls?: { readonly cert: string; readonly key: string }
  readonly token?: string
  readonly services?: Readonly<Record<string, WorkersService>>
  readonly store?: string | JobStore
  readonly lease?: number
  readonly slack?: number
  readonly maxAttempts?: number
  readonly maxWorkers?: number
  readonly maxJobs?: number
  readonly maxServices?: number
  readonly maxWaiting?: number
  readonly maxWait?: number
  readonly keep?: number
  readonly bodySize?: number
  readonly about?: Readonly<Record<string, string>>
  readonly registry?: Registry
}

const tokenRule = text('visible ASCII characters without blanks', (value) =>
  /^[\x21-\x7e]{1,1000}$/.test(value),
)
const objectRule = rule<Readonly<Record<string, unknown>>>(
  'an object',
  { type: 'object' },
  (value) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined,
)

export const WORKERS_SERVICE_RULES = {
  id: text('a UUID', (value) => CANONICAL_UUID.test(value)),
  name: text(
    `1 to ${SERVICE_TEXT_LIMITS.name} characters`,
    ({ length }) => length > 0 && length <= SERVICE_TEXT_LIMITS.name,
  ),
  description: text(
    `up to ${SERVICE_TEXT_LIMITS.description} characters`,
    ({ length }) => length <= SERVICE_TEXT_LIMITS.description,
  ),
  jobRegistrationSchema: objectRule,
  jobResultSchema: objectRule,
  timeout: milliseconds(30_000),
  token: tokenRule,
} as const

/** What `GET /` answers, by the names of the original. */
const DEFAULT_ABOUT = {
  documentation_url: '',
  maintainer_email: '',
  maintainer_name: '',
  source_code_repository_url: '',
  version: '2.0.1',
}

/** Every option. A test compares the table in docs/pull.md with this one. */
export const WORKERS_RULES = {
  listen: rule<ListenAddress>(LISTEN_TEXT_FORMS, undefined, (value) =>
    typeof value === 'string' || typeof value === 'number' ? parseListenAddress(value) : undefined,
  ),
  prefix: { ...text("'' or a path such as '/workers'", isPrefix), initial: '' },
  tls: nested<{ cert: string; key: string }>('tls', { cert: text('a path'), key: text('a path') }, [
    'cert',
    'key',
  ]),
  token: tokenRule,
  services: rule<Readonly<Record<string, WorkersService>>>(
    'services by virtual URL',
    {},
    parseServices,
  ),
  store: rule<string | JobStore>('the path of a file, or a store', undefined, (value) =>
    (typeof value === 'string' && value !== '') || isJobStore(value)
      ? (value as string | JobStore)
      : undefined,
  ),
  lease: milliseconds(60_000),
  slack: milliseconds(5_000, 'none'),
  maxAttempts: whole(1, 5),
  maxWorkers: whole(1, 100),
  maxJobs: whole(1, 100_000),
  maxServices: whole(1, 1_000),
  maxWaiting: whole(1, 10_000),
  maxWait: milliseconds(60_000),
  keep: whole(0, 10_000),
  bodySize: whole(1, 1_048_576, { unit: 'bytes' }),
  about: { ...record(), initial: DEFAULT_ABOUT as Record<string, string> },
  registry: rule<Registry>('a registry of prom-client', undefined, (value) =>
    typeof (value as Registry | null)?.registerMetric === 'function'
      ? (value as Registry)
      : undefined,
  ),
} as const

export type WorkersSettings = ParsedOptions<typeof WORKERS_RULES>

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseWorkersOptions(given: WorkersOptions): WorkersSettings {
  const settings = parseOptions('workers', given, WORKERS_RULES)
  const { listen, tls } = settings
  if (tls && !(tls.cert && tls.key)) throw createOptionError('tls needs both cert and key')
  if (tls && !listen)
    throw createOptionError(
      'tls needs listen: without it, the server that mounts the handler encrypts',
    )
  if (listen && !isLoopbackAddress(listen) && settings.token === undefined) {
    const where = formatListenAddress(listen)
    throw createOptionError(`listen ${where} can be reached from other machines: give a token`)
  }
  return settings
}

function parseServices(value: unknown): Readonly<Record<string, WorkersService>> | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
  for (const [url, service] of Object.entries(value)) {
    if (!URL.canParse(url))
      throw createOptionError(`services: a key must be a virtual URL, got ${describe(url)}`)
    const where = `workers: services: ${url}`
    const parsed = checkOptions(where, service, WORKERS_SERVICE_RULES)
    for (const name of ['jobRegistrationSchema', 'jobResultSchema'] as const) {
      if (parsed[name] !== undefined) checkSchema(parsed[name], `${where}: ${name}`)
    }
  }
  return value as Readonly<Record<string, WorkersService>>
}

function checkSchema(schema: unknown, where: string): void {
  try {
    compileSchema(schema, where)
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    throw new ManyhostError('MANYHOST_INVALID_OPTION', error.faults[0]?.detail ?? where)
  }
}

function isPrefix(value: string): boolean {
  return value === '' || /^(?:\/[\w.~-]+)+$/.test(value)
}

function isJobStore(value: unknown): boolean {
  const { openJobs, addJob } = (value ?? {}) as Partial<JobStore>
  return typeof openJobs === 'function' && typeof addJob === 'function'
}

function createOptionError(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', `workers: ${message}`)
}

/** How single services are reached through the gateway: names, paths, who may ask. */
import { ManyhostError } from '../core/errors.ts'
import { parseOptions, type Rule, rule, show, whole } from '../core/options.ts'
import { virtualUrl } from '../core/registry.ts'

/** How one service is reached through the gateway. */
export interface ServiceDoor {
  /** Further names in `Host`, beside the virtual one and `<name>.localhost`. */
  readonly hosts?: readonly string[]
  /**
   * Beginning of the path by which it is reached, too, in whole parts: `/calc`, `/api/v1`, `/` for all that is
   * nobody else's; the longest one counts. False for none. @default `/<name>`
   */
  readonly path?: string | false
  /** Whether that beginning is taken off before the instance sees the path. @default true */
  readonly strip?: boolean
  readonly auth?: Auth
  readonly cors?: Cors
  /** Whether browsers get a page that waits while nothing is ready. @default false */
  readonly waitingPage?: boolean
  /** Whether answers carry `Server-Timing`. @default false */
  readonly serverTiming?: boolean
  /** Whether a request's header `Priority` (RFC 9218) says how urgent it is: `u=0` is served first. @default false */
  readonly priorityHeader?: boolean
}

export interface Auth {
  /** Tokens of which one must come as `Authorization: Bearer`. */
  readonly bearer?: readonly string[]
  /** Passwords by user, for `Authorization: Basic`. */
  readonly basic?: Readonly<Record<string, string>>
}

export interface Cors {
  /** Origins that may call from a browser; `'*'` for all. */
  readonly origins: readonly string[]
  /** Methods that may be used. @default all */
  readonly methods?: readonly string[]
  /** Headers that may be sent beside the simple ones. @default all that are asked for */
  readonly headers?: readonly string[]
  /** Headers that scripts may read. */
  readonly expose?: readonly string[]
  /** Whether cookies and credentials may be sent; not with `'*'`. @default false */
  readonly credentials?: boolean
  /** Seconds for which a browser may remember the answer. @default 600 */
  readonly maxAge?: number
}

export function boolean(value: unknown): boolean | undefined {
  return typeof value === 'boolean' ? value : undefined
}

/** An array of texts, each of which fits. */
export function texts(
  range: string,
  fits: (text: string) => boolean = () => true,
): Rule<readonly string[]> {
  return rule<readonly string[]>(range, undefined, (value) =>
    Array.isArray(value) && value.every((one) => typeof one === 'string' && fits(one))
      ? value
      : undefined,
  )
}

const TOKEN = /^[\w!#$%&'*+.^`|~-]+$/

export function isToken(text: string): boolean {
  return TOKEN.test(text)
}

const CORS_RULES: Readonly<Record<keyof Cors, Rule<unknown>>> = {
  origins: texts("an array of origins such as 'https://a.example', or '*'", (one) =>
    /^(?:\*|null|[a-z][\w+.-]*:\/\/[\w.:[\]-]+)$/i.test(one),
  ),
  methods: texts('an array of methods', isToken),
  headers: texts('an array of header names', isToken),
  expose: texts('an array of header names', isToken),
  credentials: rule<boolean>('true or false', undefined, boolean),
  maxAge: { ...whole(0, 0), initial: undefined },
}

const AUTH_RULES: Readonly<Record<keyof Auth, Rule<unknown>>> = {
  // RFC 6750: what can be sent as a token.
  bearer: texts('an array of tokens', (one) => /^[\w.~+/-]+=*$/.test(one)),
  basic: rule<Record<string, string>>('an object of passwords by user', undefined, (value) =>
    typeof value === 'object' &&
    value !== null &&
    Object.entries(value).every(([user, one]) => !user.includes(':') && typeof one === 'string')
      ? (value as Record<string, string>)
      : undefined,
  ),
}

/** Every option of a service at the gateway. README's table is held against this one by a test. */
export const DOOR_RULES: Readonly<Record<keyof ServiceDoor, Rule<unknown>>> = {
  hosts: texts('an array of host names', (one) => /^[\w.:[\]-]+$/.test(one)),
  path: rule<string | false>("a path such as '/calc' or '/api/v1', or false", undefined, (value) =>
    value === false || (typeof value === 'string' && /^\/[^?#\s]*$/.test(value))
      ? value
      : undefined,
  ),
  strip: rule<boolean>('true or false', undefined, boolean),
  auth: rule<Auth>('{ bearer: [tokens] } or { basic: { user: password } }', undefined, object),
  cors: rule<Cors>(
    '{ origins: [...], methods, headers, expose, credentials, maxAge }',
    undefined,
    object,
  ),
  waitingPage: rule<boolean>('true or false', undefined, boolean),
  serverTiming: rule<boolean>('true or false', undefined, boolean),
  priorityHeader: rule<boolean>('true or false', undefined, boolean),
}

function object<T>(value: unknown): T | undefined {
  return typeof value === 'object' && value !== null ? (value as T) : undefined
}

/**
 * Doors by virtual URL in its normal form.
 * @throws ManyhostError MANYHOST_INVALID_OPTION, MANYHOST_INVALID_URL
 */
export function parseDoors(
  given: Readonly<Record<string, ServiceDoor>>,
): ReadonlyMap<string, ServiceDoor> {
  const doors = new Map<string, ServiceDoor>()
  for (const [url, door] of Object.entries(given)) {
    const where = `gateway: services.${url}`
    const parsed = pick(where, door, DOOR_RULES) as unknown as ServiceDoor
    const { auth, cors } = parsed
    const checked = {
      ...parsed,
      ...(auth && { auth: authOf(`${where}.auth`, auth) }),
      ...(cors && { cors: corsOf(`${where}.cors`, cors) }),
    }
    doors.set(virtualUrl(url).href, checked)
  }
  return doors
}

function authOf(where: string, given: Auth): Auth {
  const auth = pick(where, given, AUTH_RULES) as unknown as Auth
  if (auth.bearer || auth.basic) return auth
  throw invalid(`${where} must have bearer or basic, got ${show(given)}`)
}

function corsOf(where: string, given: Cors): Cors {
  const cors = pick(where, given, CORS_RULES) as unknown as Cors
  if (!cors.origins) throw invalid(`${where}.origins is missing`)
  if (cors.credentials && cors.origins.includes('*')) {
    throw invalid(`${where}: credentials and the origin '*' exclude each other`)
  }
  return cors
}

/** What was given, checked; what was not given is not there. */
function pick(where: string, given: unknown, rules: Readonly<Record<string, Rule<unknown>>>) {
  const parsed = Object.entries(parseOptions(where, given, rules))
  return Object.fromEntries(parsed.filter(([, value]) => value !== undefined))
}

function invalid(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', message)
}

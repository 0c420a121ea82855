/** How single services are reached through the gateway: names, paths, who may ask. */

import { describe } from '../core/describe.ts'
import { ManyhostError } from '../core/errors.ts'
import { parseOptions, type Rule, rule, whole } from '../core/options.ts'
import { parseVirtualUrl } from '../core/registry.ts'

/** How one service is reached through the gateway. */
export interface RouteOptions {
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

export function parseBoolean(value: unknown): boolean | undefined {
  return typeof value === 'boolean' ? value : undefined
}

/** An array of texts, each of which fits. */
export function textArray(
  range: string,
  fits: (text: string) => boolean = () => true,
): Rule<readonly string[]> {
  return rule<readonly string[]>(range, undefined, (value) =>
    Array.isArray(value) && value.every((one) => typeof one === 'string' && fits(one))
      ? value
      : undefined,
  )
}

const TOKEN_PATTERN = /^[\w!#$%&'*+.^`|~-]+$/

export function isToken(text: string): boolean {
  return TOKEN_PATTERN.test(text)
}

const CORS_RULES: Readonly<Record<keyof Cors, Rule<unknown>>> = {
  origins: textArray("an array of origins such as 'https://a.example', or '*'", (one) =>
    /^(?:\*|null|[a-z][\w+.-]*:\/\/[\w.:[\]-]+)$/i.test(one),
  ),
  methods: textArray('an array of methods', isToken),
  headers: textArray('an array of header names', isToken),
  expose: textArray('an array of header names', isToken),
  credentials: rule<boolean>('true or false', undefined, parseBoolean),
  maxAge: { ...whole(0, 0), initial: undefined },
}

const AUTH_RULES: Readonly<Record<keyof Auth, Rule<unknown>>> = {
  // RFC 6750: what can be sent as a token.
  bearer: textArray('an array of tokens', (one) => /^[\w.~+/-]+=*$/.test(one)),
  basic: rule<Record<string, string>>('an object of passwords by user', undefined, (value) =>
    typeof value === 'object' &&
    value !== null &&
    Object.entries(value).every(([user, one]) => !user.includes(':') && typeof one === 'string')
      ? (value as Record<string, string>)
      : undefined,
  ),
}

/** Every option of a service at the gateway. README's table is held against this one by a test. */
export const ROUTE_OPTION_RULES: Readonly<Record<keyof RouteOptions, Rule<unknown>>> = {
  hosts: textArray('an array of host names', (one) => /^[\w.:[\]-]+$/.test(one)),
  path: rule<string | false>("a path such as '/calc' or '/api/v1', or false", undefined, (value) =>
    value === false || (typeof value === 'string' && /^\/[^?#\s]*$/.test(value))
      ? value
      : undefined,
  ),
  strip: rule<boolean>('true or false', undefined, parseBoolean),
  auth: rule<Auth>('{ bearer: [tokens] } or { basic: { user: password } }', undefined, parseObject),
  cors: rule<Cors>(
    '{ origins: [...], methods, headers, expose, credentials, maxAge }',
    undefined,
    parseObject,
  ),
  waitingPage: rule<boolean>('true or false', undefined, parseBoolean),
  serverTiming: rule<boolean>('true or false', undefined, parseBoolean),
  priorityHeader: rule<boolean>('true or false', undefined, parseBoolean),
}

function parseObject<T>(value: unknown): T | undefined {
  return typeof value === 'object' && value !== null ? (value as T) : undefined
}

/**
 * Doors by virtual URL in its normal form.
 * @throws ManyhostError MANYHOST_INVALID_OPTION, MANYHOST_INVALID_URL
 */
export function parseRouteOptions(
  given: Readonly<Record<string, RouteOptions>>,
): ReadonlyMap<string, RouteOptions> {
  const doors = new Map<string, RouteOptions>()
  for (const [url, door] of Object.entries(given)) {
    const where = `gateway: services.${url}`
    const parsed = parseGiven(where, door, ROUTE_OPTION_RULES) as unknown as RouteOptions
    const { auth, cors } = parsed
    const checked = {
      ...parsed,
      ...(auth && { auth: parseAuth(`${where}.auth`, auth) }),
      ...(cors && { cors: parseCors(`${where}.cors`, cors) }),
    }
    doors.set(parseVirtualUrl(url).href, checked)
  }
  return doors
}

function parseAuth(where: string, given: Auth): Auth {
  const auth = parseGiven(where, given, AUTH_RULES) as unknown as Auth
  if (auth.bearer || auth.basic) return auth
  throw invalidOption(`${where} must have bearer or basic, got ${describe(given)}`)
}

function parseCors(where: string, given: Cors): Cors {
  const cors = parseGiven(where, given, CORS_RULES) as unknown as Cors
  if (!cors.origins) throw invalidOption(`${where}.origins is missing`)
  if (cors.credentials && cors.origins.includes('*')) {
    throw invalidOption(`${where}: credentials and the origin '*' exclude each other`)
  }
  return cors
}

/** What was given, checked; what was not given is not there. */
function parseGiven(where: string, given: unknown, rules: Readonly<Record<string, Rule<unknown>>>) {
  const parsed = Object.entries(parseOptions(where, given, rules))
  return Object.fromEntries(parsed.filter(([, value]) => value !== undefined))
}

function invalidOption(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', message)
}

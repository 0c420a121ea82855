/** How services are reached through the gateway: the one set of rules, which code and fleet files share. */
import { isIPv6 } from 'node:net'
import { ManyhostError } from '../core/errors.ts'
import {
  flag,
  milliseconds,
  parseOptions,
  type Rule,
  type Rules,
  rule,
  text,
} from '../core/options.ts'
import { parseVirtualUrl } from '../core/registry.ts'
import { secretText, textList } from '../core/text-rules.ts'
import { isToken } from '../dispatch/validate-request.ts'

/** How one service is reached through the gateway. */
export interface RouteOptions {
  /** Host names of the service, beside its virtual one and `<name>.localhost`. A name matches with any port, `name:81` with that one. */
  readonly hosts?: readonly string[]
  /**
   * The path prefix of the service, in whole segments: `/calc`, `/api/v1`, or `/` for every path that no other service
   * has. The longest prefix wins. False: the service has no path. @default `/<name>`
   */
  readonly path?: string | false
  /** Whether the prefix is removed before an instance sees the path. @default true */
  readonly strip?: boolean
  /** Who may use the service. @default anybody */
  readonly auth?: Auth
  /** Which web pages of other origins may use the service. @default none */
  readonly cors?: Cors
  /** Whether browsers get a page that reloads itself while no instance is ready. @default false */
  readonly waitingPage?: boolean
  /** Whether responses carry `Server-Timing`. @default false */
  readonly serverTiming?: boolean
  /** Whether the header `Priority` (RFC 9218) of a request sets its priority: `u=0` is served first. @default false */
  readonly priorityHeader?: boolean
}

/** At least one of the two. */
export interface Auth {
  /** The tokens that are accepted as `Authorization: Bearer` (RFC 6750). */
  readonly bearer?: readonly string[]
  /** The passwords by user that are accepted as `Authorization: Basic` (RFC 7617). */
  readonly basic?: Readonly<Record<string, string>>
}

/** The response headers of the CORS protocol (Fetch standard), by their names without `Access-Control-Allow-`. */
export interface Cors {
  /** Origins whose pages may use the service, as browsers send them; `'*'` for all. */
  readonly origins: readonly string[]
  /** Methods that those pages may use. @default all */
  readonly methods?: readonly string[]
  /** Request headers that those pages may send. @default all that they ask for */
  readonly headers?: readonly string[]
  /** Response headers that those pages may read, beside the ones that every page may read. @default none */
  readonly exposedHeaders?: readonly string[]
  /** Whether requests may carry cookies and `Authorization`; not together with `'*'`. @default false */
  readonly credentials?: boolean
  /** Milliseconds for which a browser may remember the response to a preflight request. @default 600000 */
  readonly maxAge?: number
}

const TOKEN_LIST_RANGE = 'a list of tokens (letters, digits, -._~+/ and = at the end)'

export const AUTH_RULES = {
  bearer: textList(TOKEN_LIST_RANGE, secretText('a token of RFC 6750', isBearerToken), {
    minItems: 1,
  }),
  basic: rule<Readonly<Record<string, string>>>(
    'an object of passwords by user',
    undefined,
    parsePasswords,
    { is: 'record', of: secretText('a password without control characters', isPassword) },
  ),
} as const satisfies Record<keyof Auth, Rule<unknown>>

export const CORS_RULES = {
  origins: textList(
    "a list of origins such as 'https://example.com', 'null' or '*'",
    text(
      "an origin as browsers send it, such as 'https://example.com', 'null' or '*'",
      isCorsOrigin,
    ),
    { minItems: 1 },
  ),
  methods: textList('a list of methods', text('a method such as GET', isToken)),
  headers: textList('a list of header names', text('the name of a header', isToken)),
  exposedHeaders: textList('a list of header names', text('the name of a header', isToken)),
  credentials: flag(false),
  maxAge: milliseconds(600_000, 'not remembered'),
} as const satisfies Record<keyof Cors, Rule<unknown>>

/** Every option of a service at the gateway. The tables of README and docs/config.md are tested against this one. */
export const ROUTE_OPTION_RULES = {
  hosts: textList(
    'a list of host names',
    text("a host name or '[IPv6 address]', with or without a port", isHost),
  ),
  path: rule<string | false>(
    "a path such as '/calc' or '/api/v1', or false",
    undefined,
    parsePath,
    { is: 'either', forms: [{ is: 'text' }, { is: 'flag' }] },
  ),
  strip: flag(true),
  auth: rule<Auth>(
    '{ bearer: [tokens] } or { basic: { user: password } }',
    undefined,
    (value) => (isObject(value) ? parseAuth('auth', value) : undefined),
    { is: 'options', rules: AUTH_RULES },
  ),
  cors: rule<Cors>(
    '{ origins, methods, headers, exposedHeaders, credentials, maxAge }',
    undefined,
    (value) => (isObject(value) ? parseCors('cors', value) : undefined),
    { is: 'options', rules: CORS_RULES, required: ['origins'] },
  ),
  waitingPage: flag(false),
  serverTiming: flag(false),
  priorityHeader: flag(false),
} as const satisfies Record<keyof RouteOptions, Rule<unknown>>

type CorsSettings = Cors & Required<Pick<Cors, 'credentials' | 'maxAge'>>

/** The options of a service with their defaults filled in; an option without a default may be absent. */
export type RouteSettings = Omit<RouteOptions, 'cors'> &
  Required<Pick<RouteOptions, 'strip' | 'waitingPage' | 'serverTiming' | 'priorityHeader'>> & {
    readonly cors?: CorsSettings
  }

/**
 * The options of all services, by virtual URL in its normal form.
 * @throws ManyhostError MANYHOST_INVALID_OPTION, MANYHOST_INVALID_URL
 */
export function parseRoutes(
  given: Readonly<Record<string, unknown>>,
): ReadonlyMap<string, RouteSettings> {
  return new Map(
    Object.entries(given).map(([url, options]) => [
      parseVirtualUrl(url).href,
      parseRouteOptions(`gateway: services.${url}`, options),
    ]),
  )
}

/**
 * The options of one service.
 * @param where begins each message
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function parseRouteOptions(where: string, given: unknown): RouteSettings {
  if (!isObject(given)) return parseDefined(where, given, ROUTE_OPTION_RULES) as never
  // The inner options first, so that a message has their full name.
  const { auth, cors } = given as RouteOptions
  const checked = {
    ...given,
    ...(isObject(auth) && { auth: parseAuth(`${where}.auth`, auth) }),
    ...(isObject(cors) && { cors: parseCors(`${where}.cors`, cors) }),
  }
  return parseDefined(where, checked, ROUTE_OPTION_RULES) as unknown as RouteSettings
}

function parseAuth(where: string, given: object): Auth {
  const auth: Auth = parseDefined(where, given, AUTH_RULES)
  if (auth.bearer || auth.basic) return auth
  throw invalidOption(`${where} must have bearer or basic: with neither, nobody gets in`)
}

function parseCors(where: string, given: object): CorsSettings {
  const cors = parseDefined(where, given, CORS_RULES) as unknown as CorsSettings
  if (!cors.origins) throw invalidOption(`${where}.origins is missing`)
  if (cors.credentials && cors.origins.includes('*')) {
    throw invalidOption(
      `${where}: credentials need a list of origins: browsers refuse them together with '*'`,
    )
  }
  return cors
}

/** Parsed options with their defaults, without the keys that have no value. */
function parseDefined(where: string, given: unknown, rules: Rules): Record<string, unknown> {
  const entries = Object.entries(parseOptions(where, given, rules))
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined))
}

/**
 * What `Host` may hold (RFC 9110 section 7.2): a name or an address, and a port. Names of services may have underscores. A dot
 * at the end is refused, because names are compared without it.
 */
function isHost(value: string): boolean {
  const match = /^(?:\[([0-9a-f:.]+)\]|[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?)(?::\d{1,5})?$/i.exec(
    value,
  )
  return match !== null && (match[1] === undefined || isIPv6(match[1]))
}

function parsePath(value: unknown): string | false | undefined {
  if (value === false) return false
  return typeof value === 'string' && /^\/[^?#\s]*$/.test(value) ? value : undefined
}

/**
 * What `Access-Control-Allow-Origin` may hold: `*`, `null`, or an origin in the one form in which browsers send it. Any
 * other form, such as `https://A.example` or `https://*.a.example`, would never match.
 */
function isCorsOrigin(value: string): boolean {
  if (value === '*' || value === 'null') return true
  if (value.includes('*') || value !== value.toLowerCase() || !URL.canParse(value)) return false
  const { protocol, host } = new URL(value)
  return host !== '' && `${protocol}//${host}` === value
}

/** `b64token` (RFC 6750 section 2.1). */
function isBearerToken(value: string): boolean {
  return /^[\w.~+/-]+=*$/.test(value)
}

/** A user name has no colon, because the first colon ends it (RFC 7617 section 2). */
function parsePasswords(value: unknown): Readonly<Record<string, string>> | undefined {
  if (!isObject(value) || Array.isArray(value)) return undefined
  const entries = Object.entries(value)
  const fits = entries.every(
    ([user, password]) =>
      !user.includes(':') &&
      !CONTROL_CHARS.test(user) &&
      typeof password === 'string' &&
      isPassword(password),
  )
  return fits && entries.length > 0 ? (value as Readonly<Record<string, string>>) : undefined
}

function isPassword(value: string): boolean {
  return value !== '' && !CONTROL_CHARS.test(value)
}

const CONTROL_CHARS = /\p{Cc}/u

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null
}

function invalidOption(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', message)
}

/** What may stand in a file beside the options of services: range and default of each key, in one place. */

import {
  flag,
  milliseconds,
  nested,
  oneOf,
  type ParsedOptions,
  parseOptions,
  type Rule,
  type Rules,
  rule,
  text,
  whole,
} from '../core/options.ts'
import { FEED_RULES as BROKER_RULES } from '../feed/broker-options.ts'
import { GATEWAY_RULES as DOOR_RULES, LIMITS } from '../gateway/options.ts'
import { SESSION_RULES } from '../session/options.ts'
import { isNetwork, listenRule } from './listen.ts'

/** A list of texts. Each is checked at its own place. */
function textList(
  range: string,
  each: Rule<string>,
  initial: readonly string[] | undefined,
  minLength = 0,
): Rule<readonly string[]> {
  const parse = (value: unknown): readonly string[] | undefined => {
    if (!Array.isArray(value) || value.length < minLength) return undefined
    return value.every((one) => each.parse(one) !== undefined) ? [...value] : undefined
  }
  return rule<readonly string[]>(range, initial, parse, {
    is: 'list',
    of: each,
    minItems: minLength,
  })
}

function secretText(range: string): Rule<string> {
  const fits = (value: unknown): value is string =>
    typeof value === 'string' && /^[\x21-\x7e]+$/.test(value)
  return rule(range, undefined, (value) => (fits(value) ? value : undefined), {
    is: 'text',
    secret: true,
  })
}

/** With all its defaults, also where it is left out. */
function sectionWithDefaults<T>(range: string, rules: Rules): Rule<T> {
  return nested<T>(range, rules, [], parseOptions(range, {}, rules) as T)
}

const secretToken = secretText('a text without spaces')
const TOKEN_NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/

function tokenList(range: string, one: string): Rule<readonly string[]> {
  return textList(
    range,
    text(one, (value) => TOKEN_NAME.test(value)),
    undefined,
  )
}

export const CORS_RULES = {
  origins: textList(
    "a list of origins such as 'https://example.com', or '*'",
    text("an origin such as 'https://example.com', or '*'", isOrigin),
    undefined,
    1,
  ),
  methods: tokenList('a list of methods', 'a method such as GET'),
  headers: tokenList('a list of header names', 'the name of a header'),
  exposedHeaders: tokenList('a list of header names', 'the name of a header'),
  credentials: flag(false),
  maxAge: milliseconds(0, 'not said'),
} as const

export const AUTH_RULES = {
  bearer: textList('a list of tokens', secretToken, undefined, 1),
  basic: rule<Readonly<Record<string, string>>>(
    'a mapping from user to password',
    undefined,
    (value) =>
      typeof value === 'object' &&
      value !== null &&
      Object.keys(value).length > 0 &&
      Object.keys(value).every((user) => !user.includes(':'))
        ? (value as Record<string, string>)
        : undefined,
    { is: 'record', of: secretText('a text without spaces') },
  ),
} as const

/** `gateway` of a service. */
export const SERVICE_GATEWAY_RULES = {
  hosts: textList(
    'a list of host names',
    text('a host name, without a port', (value) => /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/i.test(value)),
    undefined,
  ),
  path: text("a path that begins with '/', without query", (value) => /^\/[^?#\s]*$/.test(value)),
  strip: flag(true),
  auth: nested<{
    readonly bearer?: readonly string[]
    readonly basic?: Readonly<Record<string, string>>
  }>('{ bearer: [tokens] } or { basic: { user: password } }', AUTH_RULES),
  cors: nested<CorsConfig>('{ origins, methods, headers, ... }', CORS_RULES, ['origins']),
  waitingPage: flag(false),
  serverTiming: flag(false),
  priorityHeader: flag(false),
} as const

export interface CorsConfig {
  readonly origins: readonly string[]
  readonly methods?: readonly string[]
  readonly headers?: readonly string[]
  readonly exposedHeaders?: readonly string[]
  readonly credentials: boolean
  readonly maxAge: number
}

/** `gateway.limits`, with the gateway's own defaults. */
export const LIMIT_RULES = {
  headerSize: whole(1, LIMITS.headerSize, { unit: 'bytes' }),
  headerCount: whole(1, LIMITS.headerCount),
  headerTime: milliseconds(LIMITS.headerTime),
  bodySize: whole(0, LIMITS.bodySize, { unit: 'bytes' }),
  bodyRate: whole(0, LIMITS.bodyRate, { unit: 'bytes' }),
  answerRate: whole(0, LIMITS.answerRate, { unit: 'bytes' }),
  tunnelLinger: milliseconds(LIMITS.tunnelLinger, 'close at once'),
  connections: whole(1, LIMITS.connections, { unlimited: true }),
  keepAlive: milliseconds(LIMITS.keepAlive),
} as const

export type GatewayLimits = { readonly [Name in keyof typeof LIMIT_RULES]: number }

export interface GatewayTlsFiles {
  readonly cert: string
  readonly key: string
}

export const TLS_RULES = {
  cert: text('the path of a file', (value) => value !== ''),
  key: text('the path of a file', (value) => value !== ''),
} as const

/** `gateway`. */
export const GATEWAY_FILE_RULES = {
  listen: listenRule('127.0.0.1:8080'),
  tls: nested<GatewayTlsFiles>('{ cert, key }, both paths of files', TLS_RULES, ['cert', 'key']),
  http2: flag(true),
  trustedProxies: textList(
    'a list of IP addresses or ranges',
    text("an IP address, or a range such as '10.0.0.0/8'", isNetwork),
    [],
  ),
  limits: sectionWithDefaults<GatewayLimits>('{ headerSize, headerTime, ... }', LIMIT_RULES),
  forwarded: flag(true),
  pathRouting: flag(true),
  // Fleets are mostly behind a balancer, or behind clients that keep their connections.
  shutdownDelay: { ...DOOR_RULES.shutdownDelay, initial: 300 },
  drainTimeout: DOOR_RULES.drainTimeout,
} as const

/** `admin`. */
export const ADMIN_FILE_RULES = {
  listen: listenRule('127.0.0.1:9090'),
  token: secretToken,
} as const

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const
export const LOG_FORMATS = ['auto', 'json', 'pretty'] as const

/** `log`. */
export const LOG_RULES = {
  level: oneOf(LOG_LEVELS, 'info'),
  format: oneOf(LOG_FORMATS, 'auto'),
} as const

export interface FeedIdentityConfig {
  readonly secret: string
  readonly publish?: readonly string[]
  readonly subscribe?: readonly string[]
  readonly owner?: string
}

const channelNameList = (range: string): Rule<readonly string[]> =>
  textList(range, text('the name of a channel'), [])

/** One of `feed.identities`. */
export const FEED_IDENTITY_RULES = {
  secret: secretText('a text without spaces'),
  publish: channelNameList('a list of channels'),
  subscribe: channelNameList('a list of channels'),
  owner: text('a text'),
} as const

const { endpoints: _, registry: __, ...BROKER_KEYS } = BROKER_RULES

/** `feed`: what `new Feed` takes, but for what can be given in code only or is written otherwise here. */
export const FEED_FILE_RULES = {
  listen: rule<readonly string[]>(
    "an endpoint such as '127.0.0.1:20000' or 'unix:/run/feed.sock', or a list of such",
    undefined,
    (value) => {
      const given = Array.isArray(value) ? value : [value]
      const fits = given.length > 0 && given.every((one) => typeof one === 'string' && one !== '')
      return fits ? given : undefined
    },
    {
      is: 'either',
      forms: [{ is: 'text' }, { is: 'list', of: text('an endpoint'), minItems: 1 }],
    },
  ),
  ...BROKER_KEYS,
  identities: rule<Readonly<Record<string, FeedIdentityConfig>>>(
    'a mapping from ident to { secret, publish, subscribe }',
    undefined,
    (value) => (typeof value === 'object' && value !== null ? (value as never) : undefined),
    {
      is: 'record',
      of: nested('{ secret, publish, subscribe, owner }', FEED_IDENTITY_RULES, ['secret']),
    },
  ),
  identitiesFile: text('the path of a JSON or YAML file', (value) => value !== ''),
  http: flag(true),
} as const

export type FeedConfig = ParsedOptions<typeof FEED_FILE_RULES>

/** `session`: what `new Session` takes, but for what can be given in code only. */
export const SESSION_FILE_RULES = {
  ...SESSION_RULES,
  provider: text('a name of providers', (value) => value !== ''),
} as const

function isOrigin(value: string): boolean {
  return value === '*' || (URL.canParse(value) && new URL(value).origin === value)
}

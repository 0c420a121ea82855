/** The rules of a fleet file, except for services: the rules of their owners, arranged as in the file. */
import {
  flag,
  nested,
  oneOf,
  type ParsedOptions,
  parseOptions,
  type Rule,
  type Rules,
  rule,
  text,
} from '../core/options.ts'
import { isVisibleAscii, secretText, textList } from '../core/text-rules.ts'
import { FEED_RULES as BROKER_RULES } from '../feed/broker-options.ts'
import { listenListRule } from '../gateway/listen-rules.ts'
import { GATEWAY_RULES } from '../gateway/options.ts'
import { SESSION_RULES } from '../session/options.ts'

/** A section that has all its defaults even if the file leaves it out. */
function sectionWithDefaults<T>(range: string, rules: Rules): Rule<T> {
  return nested<T>(range, rules, [], parseOptions(range, {}, rules) as T)
}

/** `gateway.limits`. */
export const LIMIT_RULES = {
  headerSize: GATEWAY_RULES.headerSize,
  headerCount: GATEWAY_RULES.headerCount,
  headerTime: GATEWAY_RULES.headerTime,
  bodySize: GATEWAY_RULES.bodySize,
  bodyRate: GATEWAY_RULES.bodyRate,
  answerRate: GATEWAY_RULES.answerRate,
  tunnelLinger: GATEWAY_RULES.tunnelLinger,
  connections: GATEWAY_RULES.connections,
  keepAlive: GATEWAY_RULES.keepAlive,
} as const

export type GatewayLimits = { readonly [Name in keyof typeof LIMIT_RULES]: number }

/** `gateway`: the options of `createGateway`, some of them below `limits`. */
export const GATEWAY_FILE_RULES = {
  listen: listenListRule('127.0.0.1:8080'),
  tls: GATEWAY_RULES.tls,
  http2: GATEWAY_RULES.http2,
  trustedProxies: GATEWAY_RULES.trustedProxies,
  limits: sectionWithDefaults<GatewayLimits>('{ headerSize, headerTime, ... }', LIMIT_RULES),
  forwarded: GATEWAY_RULES.forwarded,
  pathRouting: flag(true),
  // A fleet is mostly behind a load balancer, or its clients keep their connections open.
  shutdownDelay: { ...GATEWAY_RULES.shutdownDelay, initial: 300 },
  drainTimeout: GATEWAY_RULES.drainTimeout,
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
  textList(range, text('the name of a channel'), { initial: [] })

/** One of `feed.identities`. */
export const FEED_IDENTITY_RULES = {
  secret: secretText('a text without spaces', isVisibleAscii),
  publish: channelNameList('a list of channels'),
  subscribe: channelNameList('a list of channels'),
  owner: text('a text'),
} as const

const { endpoints: _, registry: __, ...BROKER_KEYS } = BROKER_RULES

/** `feed`: the options of `new Feed`, except for those that have another form in a file or are for code only. */
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

/** `session`: the options of `new Session`; those without a form are for code only. */
export const SESSION_FILE_RULES = {
  ...SESSION_RULES,
  provider: text('a name of providers', (value) => value !== ''),
} as const

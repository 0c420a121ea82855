/** Options of the gateway, with defaults and ranges. */
import { ManyhostError } from '../errors.ts'
import { milliseconds, parseOptions, type Rule, rule, show, whole } from '../options.ts'

/** How one service is reached through the gateway. */
export interface ServiceDoor {
  /** Further names in `Host`, beside the virtual one and `<name>.localhost`. */
  readonly hosts?: readonly string[]
  /** First part of the path by which it is reached, too; false for none. @default `/<name>` */
  readonly path?: string | false
  /** Whether that part is taken off before the instance sees the path. @default true */
  readonly strip?: boolean
  readonly auth?: Auth
  readonly cors?: Cors
  /** Whether browsers get a page that waits while nothing is ready. @default false */
  readonly waitingPage?: boolean
  /** Whether answers carry `Server-Timing`. @default false */
  readonly serverTiming?: boolean
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
  /** Headers that may be sent beside the simple ones. @default all that are asked for */
  readonly headers?: readonly string[]
  /** Headers that scripts may read. */
  readonly expose?: readonly string[]
  /** Whether cookies and credentials may be sent; not with `'*'`. @default false */
  readonly credentials?: boolean
  /** Seconds for which a browser may remember the answer. @default 600 */
  readonly maxAge?: number
}

export type Listen =
  | string
  | { readonly host?: string; readonly port: number }
  | { readonly path: string }

export interface GatewayOptions {
  /** Where the gateway listens. @default '127.0.0.1:8080' */
  readonly listen?: Listen
  readonly services?: Readonly<Record<string, ServiceDoor>>
  readonly tls?: { readonly cert: string; readonly key: string }
  readonly http2?: boolean
  readonly trustedProxies?: readonly string[]
  readonly via?: string
  readonly headerSize?: number
  readonly headerTime?: number
  readonly bodySize?: number
  readonly bodyRate?: number
  readonly keepAlive?: number
  readonly connections?: number
  readonly drainTimeout?: number
}

const listen = rule<Listen>(
  "'host:port', ':port', 'unix:/path', { host, port } or { path }",
  '127.0.0.1:8080',
  (value) => (address(value) ? (value as Listen) : undefined),
)

/** Every option of the gateway. */
export const GATEWAY_RULES = {
  listen,
  services: rule<Readonly<Record<string, ServiceDoor>>>('an object by virtual URL', {}, (value) =>
    typeof value === 'object' && value !== null
      ? (value as Record<string, ServiceDoor>)
      : undefined,
  ),
  tls: rule<{ cert: string; key: string }>(
    '{ cert, key }, paths of PEM files',
    undefined,
    (value) => {
      const { cert, key } = (value ?? {}) as Record<string, unknown>
      return typeof cert === 'string' && typeof key === 'string' ? { cert, key } : undefined
    },
  ),
  http2: rule<boolean>('true or false', true, boolean),
  trustedProxies: rule<readonly string[]>('addresses of proxies', [], (value) =>
    Array.isArray(value) && value.every((one) => typeof one === 'string') ? value : undefined,
  ),
  via: rule<string>('a token', 'manyhost', (value) =>
    typeof value === 'string' && /^[\w!#$%&'*+.^`|~-]+$/.test(value) ? value : undefined,
  ),
  headerSize: whole(1_024, 16_384),
  headerTime: milliseconds(15_000),
  bodySize: whole(0, Number.POSITIVE_INFINITY),
  bodyRate: whole(0, 512),
  keepAlive: milliseconds(65_000),
  connections: whole(1, 20_000),
  drainTimeout: milliseconds(30_000),
} as const

function boolean(value: unknown): boolean | undefined {
  return typeof value === 'boolean' ? value : undefined
}

const DOOR_RULES: Readonly<Record<keyof ServiceDoor, Rule<unknown>>> = {
  hosts: rule<readonly string[]>('an array of host names', undefined, (value) =>
    Array.isArray(value) &&
    value.every((one) => typeof one === 'string' && /^[\w.:[\]-]+$/.test(one))
      ? value
      : undefined,
  ),
  path: rule<string | false>("a path of one part such as '/calc', or false", undefined, (value) =>
    value === false || (typeof value === 'string' && /^\/[^/?#\s]+$/.test(value))
      ? value
      : undefined,
  ),
  strip: rule<boolean>('true or false', undefined, boolean),
  auth: rule<Auth>('{ bearer: [tokens] } or { basic: { user: password } }', undefined, (value) => {
    const { bearer, basic } = (value ?? {}) as Auth
    return Array.isArray(bearer) || (typeof basic === 'object' && basic !== null)
      ? (value as Auth)
      : undefined
  }),
  cors: rule<Cors>(
    '{ origins: [...], headers, expose, credentials, maxAge }',
    undefined,
    (value) => {
      const { origins, credentials } = (value ?? {}) as Cors
      const fits = Array.isArray(origins) && !(credentials === true && origins.includes('*'))
      return fits ? (value as Cors) : undefined
    },
  ),
  waitingPage: rule<boolean>('true or false', undefined, boolean),
  serverTiming: rule<boolean>('true or false', undefined, boolean),
}

export interface GatewaySettings extends Required<Omit<GatewayOptions, 'tls' | 'services'>> {
  readonly tls: { readonly cert: string; readonly key: string } | undefined
  readonly doors: ReadonlyMap<string, ServiceDoor>
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseGateway(given: GatewayOptions): GatewaySettings {
  const { services, ...parsed } = parseOptions('gateway', given, GATEWAY_RULES)
  const doors = new Map<string, ServiceDoor>()
  for (const [url, door] of Object.entries(services)) {
    const checked = parseOptions(`gateway: services.${url}`, door, DOOR_RULES)
    const set = Object.entries(checked).filter(([, value]) => value !== undefined)
    doors.set(new URL(url).href.replace(/\/$/, ''), Object.fromEntries(set))
  }
  return { ...parsed, doors }
}

/** What node:net listens on, or undefined for what is no address. */
export function address(
  given: unknown,
): { host: string; port: number } | { path: string } | undefined {
  if (typeof given === 'object' && given !== null) {
    const { host = '127.0.0.1', port, path } = given as Record<string, unknown>
    if (typeof path === 'string' && path !== '') return { path }
    return typeof host === 'string' && isPort(port) ? { host, port } : undefined
  }
  if (typeof given !== 'string') return undefined
  if (given.startsWith('unix:') && given.length > 5) return { path: given.slice(5) }
  const match = /^(?:\[([0-9a-f:.]+)\]|([\w.-]*)):(\d+)$/i.exec(given)
  const port = Number(match?.[3])
  if (!match || !isPort(port)) return undefined
  return { host: match[1] ?? (match[2] || '127.0.0.1'), port }
}

function isPort(port: unknown): port is number {
  return Number.isInteger(port) && (port as number) >= 0 && (port as number) <= 65_535
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function mustBeAddress(given: unknown): { host: string; port: number } | { path: string } {
  const found = address(given)
  if (found) return found
  throw new ManyhostError(
    'MANYHOST_INVALID_OPTION',
    `gateway: listen must be ${listen.range}, got ${show(given)}`,
  )
}

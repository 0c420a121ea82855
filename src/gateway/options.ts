/** Options of the gateway, with defaults and ranges. */
import { isIP } from 'node:net'
import { milliseconds, parseOptions, rule, whole } from '../core/options.ts'
import { type AdminOptions, type AdminSettings, parseAdminOptions } from './admin/options.ts'
import { BIND_ADDRESS_FORMS, type GatewayListen, parseBindAddress } from './bind-address.ts'
import { parseBoolean, parseRouteOptions, type RouteOptions, textArray } from './route-options.ts'

export interface GatewayOptions {
  /** Where the gateway listens. @default '127.0.0.1:8080' */
  readonly listen?: GatewayListen
  /** Opens the admin address, too: the dashboard, the API, `/metrics`. Left out, there is none. */
  readonly admin?: AdminOptions
  /** How services are reached, by virtual URL; those that are not named here are reached by name and path. */
  readonly services?: Readonly<Record<string, RouteOptions>>
  /** Paths of PEM files; they are read again when they change. */
  readonly tls?: { readonly cert: string; readonly key: string }
  /** Whether HTTP/2 is spoken beside HTTP/1.1. @default true */
  readonly http2?: boolean
  /** Addresses or networks (`10.0.0.0/8`) of proxies whose `Forwarded` and `X-Forwarded-*` are believed. */
  readonly trustedProxies?: readonly string[]
  /** Whether instances are told by `Forwarded` and `X-Forwarded-*` who asked. @default true */
  readonly forwarded?: boolean
  /** The name by which the gateway calls itself in `Via`. @default 'manyhost' */
  readonly via?: string
  /** Bytes of a request's headers. @default 16384 */
  readonly headerSize?: number
  /** Header fields of a request. @default 200 */
  readonly headerCount?: number
  /** Milliseconds for a request's headers. @default 15000 */
  readonly headerTime?: number
  /** Bytes of a request's body. @default Infinity */
  readonly bodySize?: number
  /** Least bytes a second of a request's body while it is waited for; 0 for none. @default 512 */
  readonly bodyRate?: number
  /**
   * Least bytes a second of what waits to be written to a client, answers and tunnels; 0 for none. A client that takes
   * less in each of ten seconds is cut off. What has nothing to send is not held to it. @default 512
   */
  readonly answerRate?: number
  /**
   * Milliseconds without data after which a tunnel (an upgrade) is closed when one of its sides has ended; 5000 at the
   * most for WebSockets, whose ends say goodbye in frames. @default 60000
   */
  readonly tunnelLinger?: number
  /** Milliseconds for which a connection without a request stays open. @default 65000 */
  readonly keepAlive?: number
  /** Connections at a time; more are not accepted. @default 20000 */
  readonly connections?: number
  /**
   * Milliseconds from `drain()` or `close()` on for which connections are still taken, each for one answer: so that no
   * client is cut off between two requests, and a balancer in front that asks `/readyz` hears of it. `manyhost serve` takes 300. @default 0
   */
  readonly shutdownDelay?: number
  /** Milliseconds that running requests may take to end on `close()`, after `shutdownDelay`. @default 30000 */
  readonly drainTimeout?: number
}

/** What a client may send and hold where nothing else is said, in code and in a fleet file. */
export const LIMITS = {
  headerSize: 16_384,
  headerCount: 200,
  headerTime: 15_000,
  bodySize: Number.POSITIVE_INFINITY,
  bodyRate: 512,
  answerRate: 512,
  tunnelLinger: 60_000,
  connections: 20_000,
  keepAlive: 65_000,
} as const

/** Every option of the gateway. README's table is held against this one by a test. */
export const GATEWAY_RULES = {
  listen: rule<GatewayListen>(BIND_ADDRESS_FORMS, '127.0.0.1:8080', (value) =>
    parseBindAddress(value) ? (value as GatewayListen) : undefined,
  ),
  admin: rule<AdminSettings>('{ listen, token }', undefined, parseAdminOptions),
  services: rule<Readonly<Record<string, RouteOptions>>>('an object by virtual URL', {}, (value) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, RouteOptions>)
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
  http2: rule<boolean>('true or false', true, parseBoolean),
  trustedProxies: {
    ...textArray('an array of addresses and networks', isAddressOrNetwork),
    initial: [],
  },
  forwarded: rule<boolean>('true or false', true, parseBoolean),
  via: rule<string>('a token', 'manyhost', (value) =>
    typeof value === 'string' && /^[\w!#$%&'*+.^`|~-]+$/.test(value) ? value : undefined,
  ),
  headerSize: whole(1, LIMITS.headerSize),
  headerCount: whole(1, LIMITS.headerCount),
  headerTime: milliseconds(LIMITS.headerTime),
  bodySize: whole(0, LIMITS.bodySize),
  bodyRate: whole(0, LIMITS.bodyRate),
  answerRate: whole(0, LIMITS.answerRate),
  tunnelLinger: milliseconds(LIMITS.tunnelLinger, 'close at once'),
  keepAlive: milliseconds(LIMITS.keepAlive),
  connections: whole(1, LIMITS.connections),
  shutdownDelay: milliseconds(0, 'none'),
  drainTimeout: milliseconds(30_000, 'cut at once'),
} as const

function isAddressOrNetwork(text: string): boolean {
  const [host = '', bits, ...more] = text.split('/')
  const version = isIP(host)
  if (version === 0 || more.length > 0) return false
  return (
    bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (version === 4 ? 32 : 128))
  )
}

export interface GatewaySettings
  extends Required<Omit<GatewayOptions, 'admin' | 'tls' | 'services'>> {
  readonly admin: AdminSettings | undefined
  readonly tls: { readonly cert: string; readonly key: string } | undefined
  readonly routeOptions: ReadonlyMap<string, RouteOptions>
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION, MANYHOST_INVALID_URL */
export function parseGateway(given: GatewayOptions): GatewaySettings {
  const { services, ...parsed } = parseOptions('gateway', given, GATEWAY_RULES)
  return { ...parsed, routeOptions: parseRouteOptions(services) }
}

/** Options of the gateway, with defaults and ranges. */
import type { ListenOption } from '../core/listen-address.ts'
import { flag, milliseconds, parseOptions, rule, text, whole } from '../core/options.ts'
import { textList } from '../core/text-rules.ts'
import { isToken } from '../dispatch/validate-request.ts'
import { type AdminOptions, type AdminSettings, parseAdminOptions } from './admin/options.ts'
import { listenRule } from './listen-rules.ts'
import { isAddressOrNetwork } from './networks.ts'
import { parseRoutes, type RouteOptions, type RouteSettings } from './route-options.ts'

export interface GatewayTls {
  /** Path of a PEM file: the certificate, with its intermediate certificates. */
  readonly cert: string
  /** Path of a PEM file: the private key. */
  readonly key: string
}

export interface GatewayOptions {
  /** Where the gateway listens; without a host, only this machine can connect. @default '127.0.0.1:8080' */
  readonly listen?: ListenOption
  /** Opens the admin address as well: the dashboard, the API, `/metrics`. @default no admin address */
  readonly admin?: AdminOptions
  /** How services are reached, by virtual URL. A service that is not listed is reached by its name and path. */
  readonly services?: Readonly<Record<string, RouteOptions>>
  /** Serves HTTPS. The files are read again when they change. @default plain HTTP */
  readonly tls?: GatewayTls
  /** Whether HTTP/2 is served as well as HTTP/1.1. @default true */
  readonly http2?: boolean
  /** Addresses or networks (`10.0.0.0/8`) of proxies whose `Forwarded` and `X-Forwarded-*` are trusted. @default [] */
  readonly trustedProxies?: readonly string[]
  /** Whether `Forwarded` and `X-Forwarded-*` tell instances who the client is. @default true */
  readonly forwarded?: boolean
  /** The name of this gateway in `Via`. @default 'manyhost' */
  readonly via?: string
  /** Maximum bytes of the head of a request, from 1 up. @default 16384 */
  readonly headerSize?: number
  /** Maximum number of header fields of a request, from 1 up. @default 200 */
  readonly headerCount?: number
  /** Milliseconds in which the head of a request must arrive. @default 15000 */
  readonly headerTime?: number
  /** Maximum bytes of the body of a request. @default Infinity */
  readonly bodySize?: number
  /** Minimum bytes per second of a request body while an instance waits for it; 0 for no minimum. @default 512 */
  readonly bodyRate?: number
  /**
   * Minimum bytes per second that a client takes of what waits for it, responses and tunnels; 0 for no minimum. A client
   * that takes less in each of ten seconds is disconnected. A connection with nothing to send is not measured. @default 512
   */
  readonly answerRate?: number
  /**
   * Milliseconds without data after which a tunnel (an upgraded connection) is closed once one of its sides has ended.
   * For WebSockets at most 5000, because they announce their end by a close frame. @default 60000
   */
  readonly tunnelLinger?: number
  /** Milliseconds for which a connection without a request stays open. @default 65000 */
  readonly keepAlive?: number
  /** Maximum number of open connections; further ones are closed at once. @default 20000 */
  readonly connections?: number
  /**
   * Milliseconds after `drain()` or `close()` in which the gateway still accepts connections, one response each. So no
   * client is cut off between two requests, and a load balancer that polls `/readyz` has time to notice. `manyhost
   * serve` takes 300. @default 0
   */
  readonly shutdownDelay?: number
  /** Milliseconds that running requests may take to end on `close()`, after `shutdownDelay`. @default 30000 */
  readonly drainTimeout?: number
}

export const TLS_RULES = {
  cert: text('the path of a file', (path) => path !== ''),
  key: text('the path of a file', (path) => path !== ''),
} as const

/** Every option of the gateway. The tables of README and docs/config.md are tested against this one. */
export const GATEWAY_RULES = {
  listen: listenRule('127.0.0.1:8080'),
  admin: rule<AdminSettings>('{ listen, token }', undefined, parseAdminOptions),
  services: rule<Readonly<Record<string, unknown>>>('an object by virtual URL', {}, (value) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined,
  ),
  tls: rule<GatewayTls>('{ cert, key }, paths of PEM files', undefined, parseTls, {
    is: 'options',
    rules: TLS_RULES,
    required: ['cert', 'key'],
  }),
  http2: flag(true),
  trustedProxies: textList(
    'a list of IP addresses and networks',
    text("an IP address, or a network such as '10.0.0.0/8'", isAddressOrNetwork),
    { initial: [] },
  ),
  forwarded: flag(true),
  via: { ...text('a token', isToken), initial: 'manyhost' },
  headerSize: whole(1, 16_384, { unit: 'bytes' }),
  headerCount: whole(1, 200),
  headerTime: milliseconds(15_000),
  bodySize: whole(0, Number.POSITIVE_INFINITY, { unit: 'bytes' }),
  bodyRate: whole(0, 512, { unit: 'bytes' }),
  answerRate: whole(0, 512, { unit: 'bytes' }),
  tunnelLinger: milliseconds(60_000, 'close at once'),
  keepAlive: milliseconds(65_000),
  connections: whole(1, 20_000, { unlimited: true }),
  shutdownDelay: milliseconds(0, 'none'),
  drainTimeout: milliseconds(30_000, 'cut at once'),
} as const

function parseTls(value: unknown): GatewayTls | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  const { cert, key } = parseOptions('gateway: tls', value, TLS_RULES)
  return cert === undefined || key === undefined ? undefined : { cert, key }
}

export interface GatewaySettings
  extends Required<Omit<GatewayOptions, 'admin' | 'tls' | 'services'>> {
  readonly admin: AdminSettings | undefined
  readonly tls: GatewayTls | undefined
  /** By virtual URL. */
  readonly routeOptions: ReadonlyMap<string, RouteSettings>
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION, MANYHOST_INVALID_URL */
export function parseGateway(given: GatewayOptions): GatewaySettings {
  const { services, ...parsed } = parseOptions('gateway', given, GATEWAY_RULES)
  return { ...parsed, routeOptions: parseRoutes(services) }
}

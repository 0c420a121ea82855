/** What a file says of the gateway, in the gateway's own terms. Pure. */
import type { Config } from '../../config/config.ts'
import type { ConfigListen } from '../../config/listen.ts'
import { LIMIT_RULES } from '../../config/rules.ts'
import type { ServiceConfig } from '../../config/services.ts'
import type { AdminSettings } from '../../gateway/admin/options.ts'
import type { BindAddress } from '../../gateway/bind-address.ts'
import type { GatewayOptions, RouteOptions } from '../../gateway/index.ts'
import { collectFeedSecrets } from './feed.ts'

/** Options of a gateway for each address that the file names. */
export function toGatewayOptions({ gateway, services }: Config): GatewayOptions[] {
  const { listen, tls, http2, trustedProxies, forwarded, limits, pathRouting, ...ends } = gateway
  const { connections, ...others } = limits
  const options: GatewayOptions = {
    ...(tls && { tls }),
    http2,
    trustedProxies,
    forwarded,
    ...others,
    connections: Math.min(connections, Number.MAX_SAFE_INTEGER),
    ...ends,
    services: Object.fromEntries(
      services.map((one) => [one.url, toRouteOptions(one, pathRouting)]),
    ),
  }
  return listen.map((where) => ({ ...options, listen: toGatewayAddress(where) }))
}

function toRouteOptions({ gateway }: ServiceConfig, pathRouting: boolean): RouteOptions {
  const { hosts, path, strip, auth, cors, waitingPage, serverTiming, priorityHeader } = gateway
  const found = path ?? (pathRouting ? undefined : false)
  return {
    ...(hosts && { hosts }),
    ...(found !== undefined && { path: found }),
    strip,
    ...(auth && { auth }),
    ...(cors && { cors: toCorsOptions(cors) }),
    waitingPage,
    serverTiming,
    priorityHeader,
  }
}

function toCorsOptions(
  cors: NonNullable<ServiceConfig['gateway']['cors']>,
): NonNullable<RouteOptions['cors']> {
  const { origins, methods, headers, exposedHeaders, credentials, maxAge } = cors
  return {
    origins,
    ...(methods && { methods }),
    ...(headers && { headers }),
    ...(exposedHeaders && { expose: exposedHeaders }),
    credentials,
    // Files speak in milliseconds, browsers in seconds.
    ...(maxAge > 0 && { maxAge: Math.round(maxAge / 1_000) }),
  }
}

function toGatewayAddress(listen: ConfigListen): BindAddress {
  return 'socketPath' in listen ? { path: listen.socketPath } : listen
}

/** Names of a gateway's options, as the file calls them. */
export function toConfigKeys(names: readonly string[]): string[] {
  return names.map((name) => `gateway.${name in LIMIT_RULES ? 'limits.' : ''}${name}`)
}

/** Where the admin address is to be, and its token. */
export function toAdminSettings({ admin }: Config): AdminSettings {
  if (admin === false) return { addresses: [], token: undefined }
  return { addresses: admin.listen.map(toGatewayAddress), token: admin.token }
}

/** What must not be in a log. */
export function collectSecrets(config: Config): string[] {
  const { admin, services } = config
  const ofServices = services.flatMap(({ gateway: { auth } }) => [
    ...(auth?.bearer ?? []),
    ...Object.values(auth?.basic ?? {}),
  ])
  const tokens = [...ofServices, ...collectFeedSecrets(config)]
  return admin === false || admin.token === undefined ? tokens : [admin.token, ...tokens]
}

/** What a fleet file says of the gateway, as options of `createGateway`. Pure. */
import type { Config } from '../../config/config.ts'
import { LIMIT_RULES } from '../../config/rules.ts'
import type { ServiceConfig } from '../../config/services.ts'
import type { AdminSettings } from '../../gateway/admin/options.ts'
import type { GatewayOptions, RouteOptions } from '../../gateway/index.ts'
import { collectFeedSecrets } from './feed.ts'

/** Options of a gateway for each address that the file names. */
export function toGatewayOptions({ gateway, services }: Config): GatewayOptions[] {
  const { listen, tls, limits, pathRouting, ...others } = gateway
  const options: GatewayOptions = {
    ...others,
    ...limits,
    ...(tls && { tls }),
    services: Object.fromEntries(
      services.map((service) => [service.url, toRouteOptions(service, pathRouting)]),
    ),
  }
  return listen.map((address) => ({ ...options, listen: address }))
}

/** Without path routing, a service has a path only if it names one. */
function toRouteOptions({ gateway }: ServiceConfig, pathRouting: boolean): RouteOptions {
  return pathRouting || gateway.path !== undefined ? gateway : { ...gateway, path: false }
}

/** Names of a gateway's options, as the file calls them. */
export function toConfigKeys(names: readonly string[]): string[] {
  return names.map((name) => `gateway.${name in LIMIT_RULES ? 'limits.' : ''}${name}`)
}

/** The addresses of the admin server, and its token. */
export function toAdminSettings({ admin }: Config): AdminSettings {
  if (admin === false) return { addresses: [], token: undefined }
  return { addresses: admin.listen, token: admin.token }
}

/** Texts that no log may show. */
export function collectSecrets(config: Config): string[] {
  const { admin, services } = config
  const ofServices = services.flatMap(({ gateway: { auth } }) => [
    ...(auth?.bearer ?? []),
    ...Object.values(auth?.basic ?? {}),
  ])
  const tokens = [...ofServices, ...collectFeedSecrets(config)]
  return admin === false || admin.token === undefined ? tokens : [admin.token, ...tokens]
}

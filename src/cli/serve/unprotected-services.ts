/** Warns of services that anybody on the network may use. */
import type { Logger } from 'pino'
import type { Config } from '../../config/config.ts'
import { isLoopbackAddress } from '../../core/listen-address.ts'

/** The services without `auth`, if other machines can connect to a gateway. */
export function listUnprotectedServices({ gateway, services }: Config): string[] {
  if (gateway.listen.every(isLoopbackAddress)) return []
  return services.filter(({ gateway: { auth } }) => auth === undefined).map(({ url }) => url)
}

export function warnOfUnprotectedServices(config: Config, logger: Logger): void {
  const services = listUnprotectedServices(config)
  if (services.length === 0) return
  const shown = services.slice(0, MAX_SHOWN).join(', ')
  const more = services.length > MAX_SHOWN ? ` and ${services.length - MAX_SHOWN} more` : ''
  logger.warn(
    { services },
    `other machines can connect to gateway.listen, and these services ask for no authentication: ${shown}${more}`,
  )
}

const MAX_SHOWN = 10

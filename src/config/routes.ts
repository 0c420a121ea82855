/** `gateway` of a service: how it is found, and who may use it. */
import { parseOptions } from '../core/options.ts'
import { entry, readFields } from './read.ts'
import type { Reader } from './reader.ts'
import { type CorsConfig, SERVICE_GATEWAY_RULES } from './rules.ts'
import type { Tree } from './tree.ts'

export interface ServiceGateway {
  /** Undefined: as the gateway does it by default. */
  readonly hosts: readonly string[] | undefined
  readonly path: string | undefined
  readonly strip: boolean
  readonly auth:
    | {
        readonly bearer?: readonly string[]
        readonly basic?: Readonly<Record<string, string>>
      }
    | undefined
  readonly cors: CorsConfig | undefined
  readonly waitingPage: boolean
  readonly serverTiming: boolean
  readonly priorityHeader: boolean
}

/** With its defaults; these alone where something is wrong, which was reported. */
export function readRoutes(reader: Reader, node: Tree, path: string): ServiceGateway {
  const before = reader.failures
  const given = readFields(reader, node, SERVICE_GATEWAY_RULES, path) ?? {}
  const { auth } = given
  if (auth !== undefined && Object.keys(auth as object).length === 0) {
    reader.fail(
      entry(node, 'auth') ?? node,
      `${path}.auth`,
      `${path}.auth must have bearer or basic: else nobody gets in`,
    )
  }
  const right = reader.failures === before
  return parseOptions('gateway', right ? given : {}, SERVICE_GATEWAY_RULES) as ServiceGateway
}

/** Two services cannot be found by the same name. */
export function refuseTakenRoutes(
  reader: Reader,
  services: Tree,
  /** As the services are called in the file. */
  names: ReadonlyMap<string, string>,
  read: readonly { readonly url: string; readonly gateway: ServiceGateway }[],
): void {
  const taken = new Map<string, string>()
  for (const { url, gateway } of read) {
    const routes = [
      ...(gateway.hosts ?? []).map((host) => ['hosts', host.toLowerCase()] as const),
      ...(gateway.path === undefined ? [] : [['path', gateway.path.replace(/\/+$/, '')] as const]),
    ]
    for (const [key, route] of routes) {
      const other = taken.get(`${key} ${route}`)
      taken.set(`${key} ${route}`, url)
      if (other === undefined || other === url) continue
      const name = names.get(url) as string
      const service = entry(services, name)
      const node = service && entry(service, 'gateway')
      const at = (node && entry(node, key)) ?? node ?? services
      const path = `services.${name}.gateway.${key}`
      reader.fail(at, path, `${path} says the same as that of ${other}`)
    }
  }
}

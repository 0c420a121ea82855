/** `gateway` of a service: how it is found, and who may use it. */
import { parseOptions } from '../core/options.ts'
import { getEntry, readFields } from './read-fields.ts'
import type { ConfigReader } from './reader.ts'
import { type CorsConfig, SERVICE_GATEWAY_RULES } from './rules.ts'
import type { YamlTree } from './yaml-tree.ts'

export interface ServiceGatewayConfig {
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
export function readServiceGateway(
  reader: ConfigReader,
  node: YamlTree,
  path: string,
): ServiceGatewayConfig {
  const before = reader.problemCount
  const given = readFields(reader, node, SERVICE_GATEWAY_RULES, path) ?? {}
  const { auth } = given
  if (auth !== undefined && Object.keys(auth as object).length === 0) {
    reader.reportProblem(
      getEntry(node, 'auth') ?? node,
      `${path}.auth`,
      `${path}.auth must have bearer or basic: else nobody gets in`,
    )
  }
  const right = reader.problemCount === before
  return parseOptions('gateway', right ? given : {}, SERVICE_GATEWAY_RULES) as ServiceGatewayConfig
}

/** Two services cannot be found by the same name. */
export function reportDuplicateRoutes(
  reader: ConfigReader,
  services: YamlTree,
  /** As the services are called in the file. */
  names: ReadonlyMap<string, string>,
  parsed: readonly { readonly url: string; readonly gateway: ServiceGatewayConfig }[],
): void {
  const taken = new Map<string, string>()
  for (const { url, gateway } of parsed) {
    const routes = [
      ...(gateway.hosts ?? []).map((host) => ['hosts', host.toLowerCase()] as const),
      ...(gateway.path === undefined ? [] : [['path', gateway.path.replace(/\/+$/, '')] as const]),
    ]
    for (const [key, route] of routes) {
      const other = taken.get(`${key} ${route}`)
      taken.set(`${key} ${route}`, url)
      if (other === undefined || other === url) continue
      const name = names.get(url) as string
      const service = getEntry(services, name)
      const node = service && getEntry(service, 'gateway')
      const at = (node && getEntry(node, key)) ?? node ?? services
      const path = `services.${name}.gateway.${key}`
      reader.reportProblem(at, path, `${path} says the same as that of ${other}`)
    }
  }
}

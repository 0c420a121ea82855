/** `gateway` of a service: how it is reached, and who may use it. */
import {
  parseRouteOptions,
  ROUTE_OPTION_RULES,
  type RouteSettings,
} from '../gateway/route-options.ts'
import { getEntry, readFields } from './read-fields.ts'
import type { ConfigReader } from './reader.ts'
import type { YamlTree } from './yaml-tree.ts'

/** With its defaults. Only with these if something is wrong, which was reported. */
export function readServiceGateway(
  reader: ConfigReader,
  node: YamlTree,
  path: string,
): RouteSettings {
  const before = reader.problemCount
  const given = readFields(reader, node, ROUTE_OPTION_RULES, path) ?? {}
  return parseRouteOptions(path, reader.problemCount === before ? given : {})
}

/** Reports host names and paths that several services claim. */
export function reportDuplicateRoutes(
  reader: ConfigReader,
  services: YamlTree,
  /** Names of the services in the file, by URL. */
  names: ReadonlyMap<string, string>,
  parsed: readonly { readonly url: string; readonly gateway: RouteSettings }[],
): void {
  const taken = new Map<string, string>()
  for (const { url, gateway } of parsed) {
    const routes = [
      ...(gateway.hosts ?? []).map((host) => ['hosts', host.toLowerCase()] as const),
      ...(typeof gateway.path !== 'string'
        ? []
        : [['path', gateway.path.replace(/\/+$/, '')] as const]),
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
      reader.reportProblem(at, path, `${path} is the same as that of ${other}`)
    }
  }
}

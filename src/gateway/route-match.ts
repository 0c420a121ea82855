/** Matches a request to its service, and to the path that the instance gets. */
import type { IncomingMessage } from 'node:http'
import type { Cluster } from '../cluster/cluster.ts'
import { ManyhostError } from '../core/errors.ts'
import type { SessionCore } from '../session/session.ts'
import type { RouteSettings } from './route-options.ts'
import { type GatewayRoute, type GatewayRoutes, instancePath } from './routes.ts'

export interface RouteMatch {
  readonly route: GatewayRoute
  readonly options: RouteSettings
  readonly cluster: Cluster
  /** Path and query for the instance. */
  readonly path: string
  /** The host that the client asked for. */
  readonly host: string
}

/** @throws ManyhostError MANYHOST_UNKNOWN_SERVICE */
export function matchRoute(
  request: IncomingMessage,
  routes: GatewayRoutes,
  session: SessionCore,
): RouteMatch {
  const { host, path } = parseRequestTarget(request)
  const route = routes.find(host, path)
  const innerPath = route && instancePath(route, path)
  const cluster = route && session.match(route.origin, innerPath as string)
  if (!cluster) {
    const known = routes.serviceUrls().join(', ') || 'none'
    const target = `host ${host || '(none)'} and path ${path.slice(0, 200)}`
    throw new ManyhostError(
      'MANYHOST_UNKNOWN_SERVICE',
      `no service is at ${target}; known: ${known}`,
    )
  }
  return { route, options: routes.optionsOf(cluster.url), cluster, path: innerPath as string, host }
}

/** Host and path of a request target in origin or absolute form (RFC 9112 section 3.2). An absolute form has the host. */
function parseRequestTarget(request: IncomingMessage): { host: string; path: string } {
  const { url = '/' } = request
  if (url.startsWith('/')) return { host: requestedHost(request), path: url }
  const [, host = '', rest = ''] = /^[^:]+:\/\/([^/?]*)(.*)$/.exec(url) ?? []
  return { host, path: rest.startsWith('/') ? rest : `/${rest}` }
}

function requestedHost({ headers }: IncomingMessage): string {
  return (headers[':authority'] as string | undefined) ?? headers.host ?? ''
}

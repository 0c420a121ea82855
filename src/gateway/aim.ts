/** What a request is for: its service, and the path that the instance sees. */
import type { IncomingMessage } from 'node:http'
import type { Cluster } from '../cluster/cluster.ts'
import { ManyhostError } from '../core/errors.ts'
import type { Session } from '../session/session.ts'
import type { ServiceDoor } from './doors.ts'
import { pathOf, type Route, type Routes } from './routes.ts'

export interface Aim {
  readonly route: Route
  readonly door: ServiceDoor
  readonly cluster: Cluster
  /** Path and query for the instance. */
  readonly path: string
  /** The host that the client asked for. */
  readonly host: string
}

/** @throws ManyhostError MANYHOST_UNKNOWN_SERVICE */
export function aimOf(request: IncomingMessage, routes: Routes, session: Session): Aim {
  const { host, path } = targetOf(request)
  const route = routes.find(host, path)
  const inner = route && pathOf(route, path)
  const cluster = route && session.match(route.origin, inner as string)
  if (!cluster) {
    const known = routes.names().join(', ') || 'none'
    const asked = `host ${host || '(none)'} and path ${path.slice(0, 200)}`
    throw new ManyhostError(
      'MANYHOST_UNKNOWN_SERVICE',
      `no service is at ${asked}; known: ${known}`,
    )
  }
  return { route, door: routes.doorOf(cluster.url), cluster, path: inner as string, host }
}

/** Host and path of a target in origin or absolute form (RFC 9112 section 3.2): the latter's host is the one. */
function targetOf(request: IncomingMessage): { host: string; path: string } {
  const { url = '/' } = request
  if (url.startsWith('/')) return { host: hostOf(request), path: url }
  const [, host = '', rest = ''] = /^[^:]+:\/\/([^/?]*)(.*)$/.exec(url) ?? []
  return { host, path: rest.startsWith('/') ? rest : `/${rest}` }
}

function hostOf({ headers }: IncomingMessage): string {
  return (headers[':authority'] as string | undefined) ?? headers.host ?? ''
}

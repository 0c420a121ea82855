/** The admin address: metrics, health, the API by which people and programs watch and steer, and the dashboard. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Registry } from 'prom-client'
import { guardFunction } from '../../core/user-functions.ts'
import type { SessionCore } from '../../session/session.ts'
import { ASSETS, readAsset } from '../dashboard/assets.ts'
import { type AdminAccess, createAdminAccess } from './access.ts'
import type { AdminContext } from './call.ts'
import { AdminEventStream } from './event-stream.ts'
import { type AdminReply, errorReply, httpProblemReply, sendReply } from './reply.ts'
import { ManualRestarts } from './restarts.ts'
import { ADMIN_ROUTES, type AdminRoute } from './routes.ts'
import { AdminStreamWriters } from './stream-writer.ts'

export interface AdminHandlerOptions {
  /** Asked for as `Authorization: Bearer`. Without one, only names and addresses of this machine are answered to. */
  readonly token?: string
  readonly metrics: Registry
  /** Shown in the dashboard and in the OpenAPI document. */
  readonly version?: string
  /** What readiness needs besides the services'. @default always true */
  readonly isReady?: () => boolean
}

export interface AdminHandler {
  (request: IncomingMessage, response: ServerResponse): void
  /** Ceases to listen to the session. */
  close(): void
}

/**
 * Answers the requests of a `node:http` server.
 * @throws ManyhostError MANYHOST_INVALID_OPTION for a token that no header can carry
 */
export function adminHandler(session: SessionCore, options: AdminHandlerOptions): AdminHandler {
  const { token, metrics, version = '0.0.0' } = options
  const isReady = guardFunction<[], boolean>(options.isReady ?? (() => true), {
    what: 'isReady of the admin address',
    instead: 'readiness is that of the services alone',
    wanted: 'true or false',
    read: (value) => (typeof value === 'boolean' ? value : undefined),
    fallback: () => true,
  })
  const gate = createAdminAccess(token)
  const hub = new AdminEventStream(session, version)
  const restarts = new ManualRestarts(session, (error) => hub.report(error))
  const outflows = new AdminStreamWriters()
  const admin: AdminContext = {
    session,
    metrics,
    version,
    isReady,
    events: hub,
    streams: outflows,
    restarts,
  }
  return Object.assign(
    (request: IncomingMessage, response: ServerResponse) =>
      void handleRequest(request, response, gate, admin),
    { close: () => hub.close() },
  )
}

async function handleRequest(
  request: IncomingMessage,
  response: ServerResponse,
  gate: AdminAccess,
  admin: AdminContext,
): Promise<void> {
  // A reader that goes away is no news.
  response.on('error', () => undefined)
  try {
    const reply = await answerRequest(request, response, gate, admin)
    if (reply) sendReply(request, response, reply)
  } catch (thrown) {
    sendReply(request, response, errorReply(thrown))
  }
}

async function answerRequest(
  request: IncomingMessage,
  response: ServerResponse,
  gate: AdminAccess,
  admin: AdminContext,
): Promise<AdminReply | undefined> {
  const target = request.url ?? ''
  const mark = target.indexOf('?')
  const path = mark < 0 ? target : target.slice(0, mark)
  const asset = Object.hasOwn(ASSETS, path) ? ASSETS[path] : undefined
  const found = matchAdminRoutes(path)
  const isOpen = asset !== undefined || found?.some(({ route }) => route.needsNoToken) === true
  // Probes call by whatever name or address they have been given, and learn no more than yes or no.
  const isProbe = asset === undefined && isOpen
  const refusal = isProbe ? undefined : gate.refuse(request, isOpen)
  if (refusal) return refusal
  if (found === undefined) return httpProblemReply(400, 'the path is not well-formed')
  const methods = asset ? ['GET'] : found.map(({ route }) => route.method)
  if (methods.length === 0) return httpProblemReply(404, `nothing is at ${path.slice(0, 200)}`)
  const method = request.method === 'HEAD' ? 'GET' : request.method
  const allow = [...methods, ...(methods.includes('GET') ? ['HEAD'] : []), 'OPTIONS'].join(', ')
  if (method === 'OPTIONS') return { status: 204, type: 'text/plain', body: '', headers: { allow } }
  if (!methods.includes(method ?? '')) {
    return httpProblemReply(405, `${path} takes ${allow}, got ${method}`, {}, { allow })
  }
  if (asset) return { status: 200, type: asset[1], body: await readAsset(asset[0]) }
  const { route, params } = found.find((one) => one.route.method === method) as AdminRouteMatch
  const query = new URLSearchParams(mark < 0 ? '' : target.slice(mark + 1))
  const isTrusted = gate.refuse(request, false) === undefined
  return route.answer({ request, response, params, query, isTrusted, admin })
}

interface AdminRouteMatch {
  readonly route: AdminRoute
  readonly params: Record<string, string>
}

/** The routes of a path, one for each of its methods; undefined for a path that cannot be decoded. */
function matchAdminRoutes(path: string): AdminRouteMatch[] | undefined {
  let segments: string[]
  try {
    segments = path.split('/').map(decodeURIComponent)
  } catch {
    return undefined
  }
  return ADMIN_ROUTES.flatMap((route) => {
    const params = matchParams(route.path.split('/'), segments)
    return params ? [{ route, params }] : []
  })
}

function matchParams(
  pattern: readonly string[],
  segments: readonly string[],
): AdminRouteMatch['params'] | undefined {
  if (pattern.length !== segments.length) return undefined
  const params: Record<string, string> = {}
  for (const [index, part] of pattern.entries()) {
    const segment = segments[index] as string
    if (part.startsWith('{')) params[part.slice(1, -1)] = segment
    else if (part !== segment) return undefined
  }
  return Object.values(params).includes('') ? undefined : params
}

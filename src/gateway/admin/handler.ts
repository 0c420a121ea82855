/** The request handler of the admin address: metrics, health, the API, and the dashboard. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Registry } from 'prom-client'
import { allowedMethods, Router } from '../../core/http/router.ts'
import { guardFunction } from '../../core/user-functions.ts'
import type { SessionCore } from '../../session/session.ts'
import { ASSETS, readAsset } from '../dashboard/assets.ts'
import { type AdminAccess, createAdminAccess } from './access.ts'
import type { AdminContext } from './call.ts'
import { AdminEventStream } from './event-stream.ts'
import { type AdminReply, errorReply, httpProblemReply, sendReply } from './reply.ts'
import { ManualRestarts } from './restarts.ts'
import { ADMIN_ROUTES } from './routes.ts'
import { AdminStreamWriters } from './stream-writer.ts'

export interface AdminHandlerOptions {
  /**
   * Callers must send it as `Authorization: Bearer`. Without a token, only callers that use a name or an address of this
   * machine get a response.
   */
  readonly token?: string
  readonly metrics: Registry
  /** Shown in the dashboard and in the OpenAPI document. @default '0.0.0' */
  readonly version?: string
  /** Further condition of readiness, beside the services. @default always true */
  readonly isReady?: () => boolean
}

export interface AdminHandler {
  (request: IncomingMessage, response: ServerResponse): void
  /** Stops listening to the session. */
  close(): void
}

/**
 * Handles the requests of a `node:http` server.
 * @throws ManyhostError MANYHOST_INVALID_OPTION for a token that no header can carry
 */
export function adminHandler(session: SessionCore, options: AdminHandlerOptions): AdminHandler {
  const { token, metrics, version = '0.0.0' } = options
  const access = createAdminAccess(token)
  const events = new AdminEventStream(session, version)
  const context: AdminContext = {
    session,
    metrics,
    version,
    isReady: guardReadiness(options.isReady),
    events,
    streams: new AdminStreamWriters(),
    restarts: new ManualRestarts(session, (error) => events.report(error)),
  }
  return Object.assign(
    (request: IncomingMessage, response: ServerResponse) =>
      void handleRequest(request, response, access, context),
    { close: () => events.close() },
  )
}

/** A user's function that throws, or returns no boolean, counts as ready and is reported. */
function guardReadiness(isReady: () => boolean = () => true): () => boolean {
  return guardFunction<[], boolean>(isReady, {
    what: 'isReady of the admin address',
    instead: 'readiness is that of the services alone',
    wanted: 'true or false',
    read: (value) => (typeof value === 'boolean' ? value : undefined),
    fallback: () => true,
  })
}

async function handleRequest(
  request: IncomingMessage,
  response: ServerResponse,
  access: AdminAccess,
  context: AdminContext,
): Promise<void> {
  // A reader that goes away is no failure of ours.
  response.on('error', () => undefined)
  try {
    const reply = await answerRequest(request, response, access, context)
    if (reply) sendReply(request, response, reply)
  } catch (thrown) {
    sendReply(request, response, errorReply(thrown))
  }
}

const router = new Router(ADMIN_ROUTES)

/** Undefined: the route has taken over the response. */
async function answerRequest(
  request: IncomingMessage,
  response: ServerResponse,
  access: AdminAccess,
  context: AdminContext,
): Promise<AdminReply | undefined> {
  const { path, query } = splitTarget(request.url ?? '')
  const asset = Object.hasOwn(ASSETS, path) ? ASSETS[path] : undefined
  const found = router.match(path)
  const isOpen = asset !== undefined || found?.some(({ route }) => route.needsNoToken) === true
  // Probes use any name or address of this server, and learn only yes or no.
  const isProbe = asset === undefined && isOpen
  const refusal = isProbe ? undefined : access.refuse(request, isOpen)
  if (refusal) return refusal
  if (found === undefined) return httpProblemReply(400, 'the path is not well-formed')
  const methods = asset ? ['GET'] : found.map(({ route }) => route.method)
  if (methods.length === 0) return httpProblemReply(404, `nothing is at ${path.slice(0, 200)}`)
  const method = request.method === 'HEAD' ? 'GET' : request.method
  const allow = allowedMethods(methods)
  if (method === 'OPTIONS') return { status: 204, type: 'text/plain', body: '', headers: { allow } }
  if (asset && method === 'GET') {
    return { status: 200, type: asset[1], body: await readAsset(asset[0]) }
  }
  const match = found.find(({ route }) => route.method === method)
  if (!match) return httpProblemReply(405, `${path} takes ${allow}, got ${method}`, {}, { allow })
  const { route, params } = match
  const isTrusted = access.refuse(request, false) === undefined
  return route.answer({ request, response, params, query, isTrusted, admin: context })
}

function splitTarget(target: string): { path: string; query: URLSearchParams } {
  const mark = target.indexOf('?')
  if (mark < 0) return { path: target, query: new URLSearchParams() }
  return { path: target.slice(0, mark), query: new URLSearchParams(target.slice(mark + 1)) }
}

/**
 * `/api/request/<host>/<path>`: any request to any service through the admin address, without the credentials of the service,
 * because callers of the admin address control the services anyway. The request takes the path of every gateway request.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { ManyhostError } from '../../core/errors.ts'
import type { SessionCore } from '../../session/session.ts'
import { parseGateway } from '../options.ts'
import { RequestHandler } from '../request-handler.ts'
import { CSRF_HEADER, createAdminAccess } from './access.ts'
import type { AdminHandler } from './handler.ts'
import { errorReply, httpProblemReply, sendReply } from './reply.ts'

export interface ServiceRequestOptions {
  readonly token?: string
  /** Handles all other requests. */
  readonly otherwise: AdminHandler
}

const REQUEST_PREFIX = '/api/request/'
/** The service gets it as `Authorization`, which the admin address uses for its own token. */
const AUTHORIZATION = 'x-manyhost-authorization'

/** Handles requests of that path, and passes all others on. */
export function serviceRequestHandler(
  session: SessionCore,
  { token, otherwise }: ServiceRequestOptions,
): AdminHandler {
  const access = createAdminAccess(token)
  // Without route options: here no service has auth, CORS or a waiting page.
  const handler = new RequestHandler(session, parseGateway({ via: 'manyhost-admin' }))
  const listener = (request: IncomingMessage, response: ServerResponse): void => {
    if (!request.url?.startsWith(REQUEST_PREFIX)) return otherwise(request, response)
    const refusal = access.refuse(request, false) ?? refuseBrowser(request)
    if (refusal) {
      sendReply(request, response, {
        ...refusal,
        headers: { ...refusal.headers, connection: 'close' },
      })
      return
    }
    try {
      rewriteRequest(session, request, request.url.slice(REQUEST_PREFIX.length))
    } catch (thrown) {
      sendReply(request, response, { ...errorReply(thrown), headers: { connection: 'close' } })
      return
    }
    handler.onRequest(request, response)
  }
  return Object.assign(listener, { close: () => handler.close() })
}

/**
 * A service may respond with pages and scripts, which a browser must never run as those of this origin. A browser cannot send
 * this header by itself.
 */
function refuseBrowser({
  headers,
}: IncomingMessage): ReturnType<typeof httpProblemReply> | undefined {
  return headers[CSRF_HEADER] === undefined
    ? httpProblemReply(403, `expected a header ${CSRF_HEADER}`)
    : undefined
}

/** Rewrites the request to what it would be at the gateway. @throws ManyhostError MANYHOST_UNKNOWN_SERVICE */
function rewriteRequest(session: SessionCore, request: IncomingMessage, target: string): void {
  const [, name = '', rest = ''] = /^([^/?]*)(.*)$/s.exec(target) ?? []
  const host = decodeSegment(name).toLowerCase()
  const path = rest.startsWith('/') ? rest : `/${rest}`
  const known = session.clusters.map(({ url }) => new URL(url).host)
  const cluster = known.includes(host)
    ? (session.match(`http://${host}`, path) ?? session.match(`https://${host}`, path))
    : undefined
  if (!cluster) {
    const text = `no service is at ${host}${path.slice(0, 200)}; known: ${[...new Set(known)].slice(0, 20).join(', ') || 'none'}`
    throw new ManyhostError('MANYHOST_UNKNOWN_SERVICE', text)
  }
  request.url = path
  request.headers.host = host
  const raw: string[] = []
  for (let index = 0; index < request.rawHeaders.length; index += 2) {
    const header = (request.rawHeaders[index] as string).toLowerCase()
    const value = request.rawHeaders[index + 1] as string
    // Services must not see the admin token.
    if (header === 'authorization' || header === CSRF_HEADER) continue
    if (header === 'host') raw.push('host', host)
    else
      raw.push(
        header === AUTHORIZATION ? 'authorization' : (request.rawHeaders[index] as string),
        value,
      )
  }
  request.rawHeaders = raw
  request.headers.authorization = request.headers[AUTHORIZATION] as string | undefined
}

function decodeSegment(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

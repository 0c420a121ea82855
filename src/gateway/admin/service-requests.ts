/**
 * `/api/request/<host>/<path>`: any request to any service through the admin address, by who may steer them anyway,
 * and so without the service's own credentials. The request goes the gateway's way, queue, resend and all.
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
  /** Answers whatever is no such request. */
  readonly otherwise: AdminHandler
}

const REQUEST_PREFIX = '/api/request/'
/** What a caller sends as this arrives as `Authorization`, which is the admin address's own here. */
const AUTHORIZATION = 'x-manyhost-authorization'

/** Answers those requests, and hands all others on. */
export function serviceRequestHandler(
  session: SessionCore,
  { token, otherwise }: ServiceRequestOptions,
): AdminHandler {
  const gate = createAdminAccess(token)
  // No doors: neither auth nor CORS nor pages that wait stand before a service here.
  const front = new RequestHandler(session, parseGateway({ via: 'manyhost-admin' }))
  const listener = (request: IncomingMessage, response: ServerResponse): void => {
    if (!request.url?.startsWith(REQUEST_PREFIX)) return otherwise(request, response)
    const refusal = gate.refuse(request, false) ?? refuseBrowser(request)
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
    front.onRequest(request, response)
  }
  return Object.assign(listener, { close: () => front.close() })
}

/** Services answer pages and scripts, which must never be shown as this origin's own: no browser asks with this. */
function refuseBrowser({
  headers,
}: IncomingMessage): ReturnType<typeof httpProblemReply> | undefined {
  return headers[CSRF_HEADER] === undefined
    ? httpProblemReply(403, `expected a header ${CSRF_HEADER}`)
    : undefined
}

/** Makes of it what it would have been at the gateway. @throws ManyhostError MANYHOST_UNKNOWN_SERVICE */
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
    // The admin token is not for services.
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

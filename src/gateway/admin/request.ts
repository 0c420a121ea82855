/**
 * `/api/request/<host>/<path>`: any request to any service through the admin address, by who may steer them anyway,
 * and so without the service's own credentials. The request goes the gateway's way, queue, resend and all.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { ManyhostError } from '../../core/errors.ts'
import type { Session } from '../../session/session.ts'
import type { AdminHandler } from '../admin.ts'
import { Front } from '../gateway.ts'
import { parseGateway } from '../options.ts'
import { access, CSRF_HEADER } from './access.ts'
import { errorReply, problem, send } from './reply.ts'

export interface RequestHandlerOptions {
  readonly token?: string
  /** Answers whatever is no such request. */
  readonly otherwise: AdminHandler
}

const PREFIX = '/api/request/'
/** What a caller sends as this arrives as `Authorization`, which is the admin address's own here. */
const AUTHORIZATION = 'x-manyhost-authorization'

/** Answers those requests, and hands all others on. */
export function requestHandler(
  session: Session,
  { token, otherwise }: RequestHandlerOptions,
): AdminHandler {
  const gate = access(token)
  // No doors: neither auth nor CORS nor pages that wait stand before a service here.
  const front = new Front(session, parseGateway({ via: 'manyhost-admin' }))
  const listener = (request: IncomingMessage, response: ServerResponse): void => {
    if (!request.url?.startsWith(PREFIX)) return otherwise(request, response)
    const refusal = gate.refusal(request, false) ?? scripted(request)
    if (refusal) {
      send(request, response, { ...refusal, headers: { ...refusal.headers, connection: 'close' } })
      return
    }
    try {
      readdress(session, request, request.url.slice(PREFIX.length))
    } catch (thrown) {
      send(request, response, { ...errorReply(thrown), headers: { connection: 'close' } })
      return
    }
    front.onRequest(request, response)
  }
  return Object.assign(listener, { close: () => front.close() })
}

/** Services answer pages and scripts, which must never be shown as this origin's own: no browser asks with this. */
function scripted({ headers }: IncomingMessage): ReturnType<typeof problem> | undefined {
  return headers[CSRF_HEADER] === undefined
    ? problem(403, `expected a header ${CSRF_HEADER}`)
    : undefined
}

/** Makes of it what it would have been at the gateway. @throws ManyhostError MANYHOST_UNKNOWN_SERVICE */
function readdress(session: Session, request: IncomingMessage, target: string): void {
  const [, name = '', rest = ''] = /^([^/?]*)(.*)$/s.exec(target) ?? []
  const host = decoded(name).toLowerCase()
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

function decoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

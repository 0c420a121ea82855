/** Who may call: a token, and where a browser calls, its page's origin and the name that it called us by. */
import type { IncomingMessage } from 'node:http'
import {
  digestSecret,
  isEqualDigest,
  isLocalHostName,
  isSameOrigin,
  parseBearerToken,
} from '../../core/http-caller.ts'
import { checkOption } from '../../core/options.ts'
import { ADMIN_RULES } from './options.ts'
import { type AdminReply, httpProblemReply } from './reply.ts'

/** Marks a call without a JSON body as one that no foreign form or image can have made. */
export const CSRF_HEADER = 'x-requested-with'

export interface AdminAccess {
  /** Whether the request carries the token; true for all where there is none. */
  hasToken(request: IncomingMessage): boolean
  /** Why the request may not go on, if so. `isOpen` routes ask for no token. */
  refuse(request: IncomingMessage, isOpen: boolean): AdminReply | undefined
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION for a token that no header can carry */
export function createAdminAccess(token: string | undefined): AdminAccess {
  if (token !== undefined) checkOption('admin', 'token', token, ADMIN_RULES.token)
  const expected = token === undefined ? undefined : digestSecret(token)
  const hasToken = ({ headers }: IncomingMessage): boolean => {
    if (!expected) return true
    return isEqualDigest(digestSecret(parseBearerToken(headers.authorization)), expected)
  }
  return {
    hasToken,
    refuse(request, isOpen) {
      // With a token a page that rebinds its name has nothing to show; without one, names are all there is.
      if (!expected && !isLocalHostName(request.headers.host, request.socket.localAddress)) {
        return httpProblemReply(
          421,
          `this server is not ${request.headers.host ?? 'nobody'}: call it by localhost`,
        )
      }
      if (!isOpen && !hasToken(request)) {
        const what = request.headers.authorization === undefined ? 'no token' : 'a wrong token'
        const headers = { 'www-authenticate': 'Bearer realm="manyhost"' }
        return httpProblemReply(
          401,
          `the request has ${what}`,
          { code: 'MANYHOST_UNAUTHORIZED' },
          headers,
        )
      }
      return refuseForeignOrigin(request)
    },
  }
}

/** A page of another origin, or a call that such a page could make without being asked first. */
function refuseForeignOrigin({ method, headers }: IncomingMessage): AdminReply | undefined {
  const { origin } = headers
  if (!isSameOrigin(origin, headers.host)) {
    return httpProblemReply(403, `pages of ${origin} may not call this`)
  }
  if (method === 'GET' || method === 'HEAD' || method === 'OPTIONS') return undefined
  if (headers['sec-fetch-site'] === 'cross-site') {
    return httpProblemReply(403, 'pages of other sites may not call this')
  }
  const isJson = /^application\/json *(;|$)/i.test(headers['content-type'] ?? '')
  if (isJson || headers[CSRF_HEADER] !== undefined) return undefined
  return httpProblemReply(
    403,
    `expected Content-Type: application/json, or a header ${CSRF_HEADER}`,
  )
}

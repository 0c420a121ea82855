/** Who may call the admin address: the token, and for browsers the origin of the page and the name of this server. */
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

/** A header that no form or image of another site can send. It protects calls without a JSON body. */
export const CSRF_HEADER = 'x-requested-with'

export interface AdminAccess {
  /** Whether the request has the token; always true if there is no token. */
  hasToken(request: IncomingMessage): boolean
  /** The refusal of a request; undefined if it may pass. `isOpen` routes need no token. */
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
      // Against DNS rebinding: without a token, only the name in Host shows that a foreign page calls.
      if (!expected && !isLocalHostName(request.headers.host, request.socket.localAddress)) {
        return httpProblemReply(
          421,
          `this server is not ${request.headers.host ?? '(no Host)'}: call it by localhost`,
        )
      }
      if (!isOpen && !hasToken(request)) {
        const tokenState =
          request.headers.authorization === undefined ? 'no token' : 'a wrong token'
        const headers = { 'www-authenticate': 'Bearer realm="manyhost"' }
        return httpProblemReply(
          401,
          `the request has ${tokenState}`,
          { code: 'MANYHOST_UNAUTHORIZED' },
          headers,
        )
      }
      return refuseForeignOrigin(request)
    },
  }
}

/** Refuses pages of other origins, and calls that such a page could make without a preflight request. */
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

/** Servers whose callers must show one token, as `Authorization: Bearer <token>` (RFC 6750). */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { isSameSecret, parseBearerToken } from '../http-caller.ts'
import { createProblem, sendProblem } from './problem.ts'

export interface BearerRule {
  /** Undefined: every caller is let in. */
  readonly token: string | undefined
  /** Names the protected server in the answer's `WWW-Authenticate`. */
  readonly realm: string
  /** What the answer tells a caller that has not the token. */
  readonly detail: string
}

/** Whether the caller has the token. A caller that has not is answered with 401 here. */
export function admitBearer(
  request: IncomingMessage,
  response: ServerResponse,
  { token, realm, detail }: BearerRule,
): boolean {
  if (token === undefined) return true
  if (isSameSecret(token, parseBearerToken(request.headers.authorization))) return true
  const headers = { 'www-authenticate': `Bearer realm="${realm}"` }
  sendProblem(response, createProblem(401, detail, { code: 'MANYHOST_UNAUTHORIZED' }), headers)
  return false
}

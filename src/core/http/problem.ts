/** Errors as problem details (RFC 9457): one form for every HTTP server of ours except where TopChef's API is spoken. */
import { type ServerResponse, STATUS_CODES } from 'node:http'
import { ERRORS, ManyhostError } from '../errors.ts'
import { destroyResponse } from './http-server.ts'

export const PROBLEM_TYPE = 'application/problem+json'

/** The members that every problem has. Further members may follow. */
export interface Problem {
  readonly type: string
  readonly title: string
  readonly status: number
  readonly detail: string
  readonly [member: string]: unknown
}

/** A problem that no `ManyhostError` describes, such as a route that does not exist. */
export function createProblem(
  status: number,
  detail: string,
  members: Readonly<Record<string, unknown>> = {},
): Problem {
  const title = STATUS_CODES[status] ?? 'Error'
  return { type: 'about:blank', title, status, detail, ...members }
}

/** The first line of the message only: the lines after it are output of an instance, which not every caller may read. */
export function problemOfError(error: ManyhostError): Problem {
  const { code, status, retryable, message } = error
  return {
    type: `urn:manyhost:error:${code}`,
    title: ERRORS[code].meaning,
    status,
    detail: message.split('\n', 1)[0] as string,
    code,
    retryable,
  }
}

/**
 * The problem of anything that was thrown.
 * @param fallback detail for what is no `ManyhostError`: its own text may hold what a caller must not see
 */
export function problemOfThrown(thrown: unknown, fallback: string): Problem {
  return thrown instanceof ManyhostError ? problemOfError(thrown) : createProblem(500, fallback)
}

/** When a caller should try again, in seconds, for a problem that passes by itself. */
const RETRY_AFTER = '1'

/** The header fields of a problem: its type, and `Retry-After` for a 503. */
export function problemHeaders({ status }: Problem): Record<string, string> {
  return { 'content-type': PROBLEM_TYPE, ...(status === 503 && { 'retry-after': RETRY_AFTER }) }
}

/** Answers with a problem. A response that has begun is broken off, so that its reader sees that it is incomplete. */
export function sendProblem(
  response: ServerResponse,
  problem: Problem,
  headers: Readonly<Record<string, string>> = {},
): void {
  if (response.headersSent || response.destroyed) return destroyResponse(response)
  const body = JSON.stringify(problem)
  response.writeHead(problem.status, {
    ...problemHeaders(problem),
    'content-length': String(Buffer.byteLength(body)),
    ...headers,
  })
  response.end(response.req.method === 'HEAD' ? undefined : body)
}

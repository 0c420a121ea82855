/** The reply of a route, and how it is sent. Errors are replies with problem details (RFC 9457). */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { destroyResponse } from '../../core/http/http-server.ts'
import {
  createProblem,
  PROBLEM_TYPE,
  type Problem,
  problemHeaders,
  problemOfThrown,
} from '../../core/http/problem.ts'

export interface AdminReply {
  readonly status: number
  readonly type: string
  readonly body: string | Buffer
  readonly headers?: Readonly<Record<string, string>>
}

/** Of every reply: browsers do not cache it, guess its type, show it in a frame, or give it to another origin. */
const COMMON_HEADERS = {
  'cache-control': 'no-store',
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
} as const

export function jsonReply(status: number, value: unknown): AdminReply {
  return { status, type: 'application/json', body: JSON.stringify(value) }
}

export function textReply(body: string): AdminReply {
  return { status: 200, type: 'text/plain; charset=utf-8', body }
}

export interface ProblemMembers {
  readonly code?: string
  readonly reasons?: readonly string[]
}

/** A problem that no `ManyhostError` describes: a route that does not exist, a token that is missing. */
export function httpProblemReply(
  status: number,
  detail: string,
  members: ProblemMembers = {},
  headers: Readonly<Record<string, string>> = {},
): AdminReply {
  return toProblemReply(createProblem(status, detail, { ...members }), headers)
}

/** The reply to anything that was thrown. The text of what is no `ManyhostError` is not shown. */
export function errorReply(thrown: unknown): AdminReply {
  return toProblemReply(problemOfThrown(thrown, 'the admin API failed'))
}

function toProblemReply(
  problem: Problem,
  headers: Readonly<Record<string, string>> = {},
): AdminReply {
  return {
    status: problem.status,
    type: PROBLEM_TYPE,
    body: JSON.stringify(problem),
    headers: { ...problemHeaders(problem), ...headers },
  }
}

export function sendReply(
  request: IncomingMessage,
  response: ServerResponse,
  reply: AdminReply,
): void {
  if (response.headersSent || response.destroyed) {
    destroyResponse(response)
    return
  }
  writeReplyHead(response, reply.status, reply.type, {
    // RFC 9110 section 8.6: a 204 has no Content-Length.
    ...(reply.status !== 204 && { 'content-length': String(Buffer.byteLength(reply.body)) }),
    ...reply.headers,
  })
  response.end(request.method === 'HEAD' ? undefined : reply.body)
}

/** Sends the head of a reply, with the header fields of every reply. */
export function writeReplyHead(
  response: ServerResponse,
  status: number,
  type: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(status, { ...COMMON_HEADERS, 'content-type': type, ...headers })
}

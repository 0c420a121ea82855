/** What a route answers, and how that is sent. Errors are answers too: RFC 9457 problem details. */
import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http'
import { ERRORS, ManyhostError } from '../../core/errors.ts'
import { destroyResponse } from '../../core/http/http-server.ts'

export interface AdminReply {
  readonly status: number
  readonly type: string
  readonly body: string | Buffer
  readonly headers?: Readonly<Record<string, string>>
}

/** Goes with every answer: nothing is kept, guessed, framed or lent to another origin. */
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

/** An answer that no error of ours stands behind: a route that is not there, a token that is missing. */
export function httpProblemReply(
  status: number,
  detail: string,
  members: ProblemMembers = {},
  headers: Record<string, string> = {},
): AdminReply {
  const title = STATUS_CODES[status] ?? 'Error'
  return toProblemReply({ type: 'about:blank', title, status, detail, ...members }, headers)
}

/** The answer to anything that was thrown. What is no error of ours keeps its text to itself. */
export function errorReply(thrown: unknown): AdminReply {
  if (!(thrown instanceof ManyhostError)) return httpProblemReply(500, 'the admin API failed')
  const { code, status, retryable, message } = thrown
  return toProblemReply({
    type: `urn:manyhost:error:${code}`,
    title: ERRORS[code].meaning,
    status,
    // The lines after the first are the output of an instance.
    detail: message.split('\n', 1)[0],
    code,
    retryable,
  })
}

function toProblemReply(
  body: { readonly status: number } & Readonly<Record<string, unknown>>,
  headers: Record<string, string> = {},
): AdminReply {
  const retry: Record<string, string> = body.status === 503 ? { 'retry-after': '1' } : {}
  return {
    status: body.status,
    type: 'application/problem+json',
    body: JSON.stringify(body),
    headers: { ...retry, ...headers },
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
    // RFC 9110 section 8.6: a 204 has none.
    ...(reply.status !== 204 && { 'content-length': String(Buffer.byteLength(reply.body)) }),
    ...reply.headers,
  })
  response.end(request.method === 'HEAD' ? undefined : reply.body)
}

/** Sends the head of an answer, with what goes with every answer. */
export function writeReplyHead(
  response: ServerResponse,
  status: number,
  type: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(status, { ...COMMON_HEADERS, 'content-type': type, ...headers })
}

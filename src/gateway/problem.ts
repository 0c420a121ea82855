/** Errors of requests, as responses with problem details (RFC 9457). */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { ManyhostError } from '../core/errors.ts'
import { PROBLEM_TYPE, type Problem, problemOfError } from '../core/http/problem.ts'
import { cutResponse, endWithBody, writeHead } from './response-writer.ts'

/** The problem of a request: with its id, and with the attempts that were made. */
function toRequestProblem(error: ManyhostError, id: string): Problem {
  const attempts = error.attempts.map(({ attempt, instance, reason = '' }) => ({
    attempt,
    instance,
    reason,
  }))
  return { ...problemOfError(error), instance: id, ...(attempts.length > 0 && { attempts }) }
}

interface ProblemResponseOptions {
  /** The id of the request. */
  readonly id: string
  /** Further header fields: names and values in turn. */
  readonly headers?: readonly string[]
}

/** Responds with a problem. A response that has begun is broken off, so that its reader sees that it is incomplete. */
export function writeProblem(
  request: IncomingMessage,
  response: ServerResponse,
  error: ManyhostError,
  { id, headers = [] }: ProblemResponseOptions,
): void {
  if (response.headersSent) return cutResponse(request, response)
  const body = Buffer.from(JSON.stringify(toRequestProblem(error, id)))
  const flat = [
    'content-type',
    PROBLEM_TYPE,
    'content-length',
    String(body.length),
    'cache-control',
    'no-store',
    'x-request-id',
    id,
    ...headers,
  ]
  if (error.retryable && error.status === 503) flat.push('retry-after', '1')
  if (!writeHead(request, response, error.status, '', flat)) return
  if (request.method === 'HEAD') response.end()
  else endWithBody(response, body)
}

/** Why the gateway refuses the body of a request. The layers below know only that the body failed, and wrap the error. */
const BODY_ERROR_CODES = new Set([
  'MANYHOST_BODY_TOO_LARGE',
  'MANYHOST_BODY_TOO_SLOW',
  'MANYHOST_BAD_REQUEST',
])

/** The error that the client is told, for anything that was thrown. */
export function toResponseError(error: Error): ManyhostError {
  if (!(error instanceof ManyhostError)) {
    return new ManyhostError('MANYHOST_ATTEMPT_FAILED', error.message, { cause: error })
  }
  const { cause } = error
  return cause instanceof ManyhostError && BODY_ERROR_CODES.has(cause.code) ? cause : error
}

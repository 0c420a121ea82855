/** Errors as RFC 9457 problem details, with our codes. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { ERRORS, ManyhostError } from '../core/errors.ts'
import { cutResponse, writeHead } from './response-writer.ts'

interface ProblemDetails {
  readonly type: string
  readonly title: string
  readonly status: number
  readonly detail: string
  readonly code: string
  readonly retryable: boolean
  /** The request's id. */
  readonly instance?: string
  readonly attempts?: readonly { attempt: number; instance: string; reason: string }[]
}

/** What is said of an error. The output of an instance is for its owner, not for whoever asks. */
function toProblemDetails(error: ManyhostError, id: string): ProblemDetails {
  const attempts = error.attempts.map(({ attempt, instance, reason = '' }) => ({
    attempt,
    instance,
    reason,
  }))
  return {
    type: `urn:manyhost:error:${error.code}`,
    title: ERRORS[error.code].meaning,
    status: error.status,
    detail: error.message.split('\n', 1)[0] as string,
    code: error.code,
    retryable: error.retryable,
    instance: id,
    ...(attempts.length > 0 && { attempts }),
  }
}

interface ProblemResponseOptions {
  readonly id: string
  /** Names and values in turn. */
  readonly headers?: readonly string[]
}

/** Answers with an error. */
export function writeProblem(
  request: IncomingMessage,
  response: ServerResponse,
  error: ManyhostError,
  { id, headers = [] }: ProblemResponseOptions,
): void {
  if (response.headersSent) return cutResponse(request, response)
  const body = Buffer.from(JSON.stringify(toProblemDetails(error, id)))
  const flat = [
    'content-type',
    'application/problem+json',
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
  // As text, which node:http puts behind the head: see `endWithBody`.
  if (request.method === 'HEAD') response.end()
  else response.end(body.toString('latin1'), 'latin1')
}

/** What a body may be refused for, and the layers below only know to have failed. */
const BODY_ERROR_CODES = new Set([
  'MANYHOST_BODY_TOO_LARGE',
  'MANYHOST_BODY_TOO_SLOW',
  'MANYHOST_BAD_REQUEST',
])

/** Anything that was thrown, as an error that can be answered. */
export function toResponseError(error: Error): ManyhostError {
  if (!(error instanceof ManyhostError)) {
    return new ManyhostError('MANYHOST_ATTEMPT_FAILED', error.message, { cause: error })
  }
  const { cause } = error
  return cause instanceof ManyhostError && BODY_ERROR_CODES.has(cause.code) ? cause : error
}

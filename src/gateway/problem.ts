/** Errors as RFC 9457 problem details, with our codes. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { ERRORS, ManyhostError } from '../errors.ts'

export interface Problem {
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
export function problemOf(error: ManyhostError, id?: string): Problem {
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
    ...(id !== undefined && { instance: id }),
    ...(attempts.length > 0 && { attempts }),
  }
}

export interface ProblemAnswer {
  readonly id?: string
  readonly headers?: Readonly<Record<string, string>>
  /** Whether the connection is to end with this answer. */
  readonly close?: boolean
}

/** Answers with an error. What was answered already is cut off, so that nobody takes it for whole. */
export function answerProblem(
  request: IncomingMessage,
  response: ServerResponse,
  error: ManyhostError,
  { id, headers = {}, close = false }: ProblemAnswer = {},
): void {
  if (response.headersSent) {
    response.destroy()
    return
  }
  const body = JSON.stringify(problemOf(error, id))
  const retry = error.retryable && error.status === 503 ? { 'retry-after': '1' } : undefined
  const isV1 = request.httpVersionMajor < 2
  response.writeHead(error.status, {
    'content-type': 'application/problem+json',
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    ...(id !== undefined && { 'x-request-id': id }),
    ...retry,
    ...headers,
    ...(close && isV1 && { connection: 'close' }),
  })
  response.end(request.method === 'HEAD' ? undefined : body)
}

/** Anything that was thrown, as an error that can be answered. */
export function answerable(error: Error): ManyhostError {
  if (error instanceof ManyhostError) return error
  return new ManyhostError('MANYHOST_ATTEMPT_FAILED', error.message, { cause: error })
}

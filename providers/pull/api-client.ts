/** What clients of the API share: one request, its answer as JSON, and the errors for answers that are no success. */
import { type Dispatcher, request } from 'undici'
import type { BackoffRange } from '../../src/core/backoff.ts'
import { describeError, ManyhostError } from '../../src/core/errors.ts'

export interface PullClientOptions {
  readonly token?: string | undefined
  /** A dispatcher of undici, for a unix socket or for certificates. */
  readonly dispatcher?: Dispatcher | undefined
}

export interface PullResponse {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  /** The parsed body; undefined when there is none, or when it is not JSON. */
  readonly body: Readonly<Record<string, unknown>> | undefined
}

export interface PullClientRequest {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  /** JSON text of the body. */
  readonly text?: string | undefined
  readonly headers?: Readonly<Record<string, string>>
  readonly signal?: AbortSignal
  /** Milliseconds for the head of the answer, and for each silence in its body. @default 30000 */
  readonly timeout?: number
}

const DEFAULT_TIMEOUT = 30_000

/** Wait between two tries of a request that has failed. */
export const RETRY_DELAY: BackoffRange = { min: 100, max: 30_000 }

/** Resolves with the answer, whatever its status is. Rejects when there is no answer. */
export async function sendApiRequest(
  url: string,
  { token, dispatcher }: PullClientOptions,
  { method, text, headers, signal, timeout = DEFAULT_TIMEOUT }: PullClientRequest,
): Promise<PullResponse> {
  const answer = await request(url, {
    method,
    headers: {
      ...(text !== undefined && { 'content-type': 'application/json' }),
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
      ...headers,
    },
    body: text ?? null,
    headersTimeout: timeout,
    bodyTimeout: timeout,
    ...(dispatcher && { dispatcher }),
    ...(signal && { signal }),
  })
  const body = parseObject(await answer.body.text())
  return { status: answer.statusCode, headers: answer.headers, body }
}

function parseObject(text: string): PullResponse['body'] {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as PullResponse['body']) : undefined
  } catch {
    return undefined
  }
}

/** The error for an answer that is no success. It has the API's own explanation. */
export function toStatusError(what: string, { status, body }: PullResponse): ManyhostError {
  const [first] = (body?.errors ?? []) as { title?: string; detail?: string }[]
  const why = first ? `${first.title}: ${first.detail}` : 'without an explanation'
  return new ManyhostError('MANYHOST_BAD_STATUS', `${what} was answered with ${status}, ${why}`, {
    status,
    retryable: status >= 500 || status === 429,
  })
}

/** The error for a request without an answer. */
export function toUnreachableError(what: string, error: unknown): ManyhostError {
  return new ManyhostError('MANYHOST_ATTEMPT_FAILED', `${what}: ${describeError(error)}`, {
    cause: error,
  })
}

/** What clients of the API share: one request, its answer as JSON, and how long to wait after a failure. */
import { type Dispatcher, request } from 'undici'
import { describeError, ManyhostError } from '../../src/core/errors.ts'

export interface PullClientOptions {
  readonly token?: string | undefined
  /** Undici's, for a unix socket or certificates. */
  readonly dispatcher?: Dispatcher | undefined
}

export interface PullResponse {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  /** The parsed body; undefined where there is none or it is no JSON. */
  readonly body: Readonly<Record<string, unknown>> | undefined
}

interface PullClientRequest {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  /** JSON text. */
  readonly text?: string | undefined
  readonly headers?: Readonly<Record<string, string>>
  readonly signal?: AbortSignal
  /** Milliseconds for the answer's head and for each silence in it. */
  readonly timeout?: number
}

const DEFAULT_TIMEOUT = 30_000

/** Rejects when there is no answer; whatever its status, an answer is one. */
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
  const got = await answer.body.text()
  let body: unknown
  try {
    body = got === '' ? undefined : JSON.parse(got)
  } catch {
    body = undefined
  }
  return {
    status: answer.statusCode,
    headers: answer.headers,
    body: typeof body === 'object' && body !== null ? (body as PullResponse['body']) : undefined,
  }
}

/** An answer that is no success, as an error: the API's own words are in it. */
export function toStatusError(what: string, { status, body }: PullResponse): ManyhostError {
  const [first] = (body?.errors ?? []) as { title?: string; detail?: string }[]
  const why = first ? `${first.title}: ${first.detail}` : 'without a word'
  return new ManyhostError('MANYHOST_BAD_STATUS', `${what} was answered with ${status}, ${why}`, {
    status,
    retryable: status >= 500 || status === 429,
  })
}

/** No answer came. */
export function toUnreachableError(what: string, error: unknown): ManyhostError {
  return new ManyhostError('MANYHOST_ATTEMPT_FAILED', `${what}: ${describeError(error)}`, {
    cause: error,
  })
}

/** Longest wait between two tries, in ms. */
const MAX_BACKOFF = 30_000

/**
 * Wait after the `failures`-th failure in a row, in ms.
 * Source: "equal jitter" of Brooker, "Exponential Backoff and Jitter" (2015).
 */
export function backoff(failures: number, random: () => number): number {
  const full = Math.min(MAX_BACKOFF, 100 * 2 ** Math.min(failures - 1, 20))
  return full / 2 + random() * (full / 2)
}

/** Decides what to do about a failed attempt. Pure. */
import { connectionFailureOf } from '../core/connector.ts'
import { ManyhostError } from '../core/errors.ts'
import type { ResendPolicy } from './settings.ts'

/** Why an attempt failed: a label of metrics and events, from a bounded set. */
export type FailureReason =
  | 'connect'
  | 'connection'
  | 'protocol'
  | 'ended'
  | 'unhealthy'
  | 'attempt-timeout'
  | 'returned'
  | 'closed'
  | 'caller'

export interface AttemptFailure {
  readonly reason: FailureReason
  /** Whether the request was put on a connection. */
  readonly sent: boolean
  /** Whether a part of the response was passed on to the caller. */
  readonly passedOn: boolean
  readonly method: string
  readonly hasIdempotencyKey: boolean
  readonly policy: ResendPolicy
  /** Attempts so far, this one included. */
  readonly attempts: number
  readonly maxAttempts: number
}

/** What follows: another attempt, or an error for the caller and why there is no other attempt. */
export type ResendVerdict =
  | 'resend'
  | 'refused'
  | 'interrupted'
  | 'exhausted'
  | 'forbidden'
  | 'caller'
  | 'closed'

/** Methods that RFC 9110 section 9.2.2 calls idempotent. */
const IDEMPOTENT = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE', 'QUERY'])

export function isIdempotent(method: string): boolean {
  return IDEMPOTENT.has(method)
}

/** Whether a request that may have been executed may be executed once more. */
export function mayRepeat(
  policy: ResendPolicy,
  method: string,
  hasIdempotencyKey: boolean,
): boolean {
  if (policy === 'always') return true
  return policy === 'idempotent' && (hasIdempotencyKey || isIdempotent(method))
}

/**
 * 1. The caller's own error, or the end of the service: no attempt can be better.
 * 2. Part of the response was passed on: a second response cannot follow it.
 * 3. The response is not valid HTTP: another instance would send the same, and the request would be executed again.
 * 4. The request may have been executed, and the resend policy forbids to repeat it. A request that was never sent, or
 *    that the instance handed back, was not executed.
 * 5. `maxAttempts` is reached.
 * 6. Otherwise it is sent again.
 */
export function decideVerdict(failure: AttemptFailure): ResendVerdict {
  const { reason, policy, method, hasIdempotencyKey } = failure
  if (reason === 'caller' || reason === 'closed') return reason // 1
  if (failure.passedOn) return 'interrupted' // 2
  if (reason === 'protocol') return 'refused' // 3
  const mayBeExecuted = failure.sent && reason !== 'returned'
  if (mayBeExecuted && !mayRepeat(policy, method, hasIdempotencyKey)) return 'forbidden' // 4
  if (failure.attempts >= failure.maxAttempts) return 'exhausted' // 5
  return 'resend' // 6
}

/** Codes of errors for which the caller is to blame, not the instance. */
const CALLER_ERROR_CODES = new Set([
  'MANYHOST_BODY_FAILED',
  'MANYHOST_INVALID_OPTION',
  // A time limit that the caller set for a part of the exchange.
  'MANYHOST_TIMEOUT',
  // By these undici refuses what the caller gave.
  'UND_ERR_INVALID_ARG',
  'UND_ERR_NOT_SUPPORTED',
  'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH',
])

export function isCallerError(error: Error): boolean {
  return CALLER_ERROR_CODES.has(String((error as { code?: unknown }).code ?? ''))
}

/** Our code for a caller's error that has none of ours: of its body, or of what undici refused. */
export function callerErrorCode(error: Error): 'MANYHOST_BODY_FAILED' | 'MANYHOST_INVALID_REQUEST' {
  const code = String((error as { code?: unknown }).code ?? '')
  return code === 'UND_ERR_INVALID_ARG' || code === 'UND_ERR_NOT_SUPPORTED'
    ? 'MANYHOST_INVALID_REQUEST'
    : 'MANYHOST_BODY_FAILED'
}

const CONNECT_ERROR_CODES = new Set([
  'ECONNREFUSED',
  'ENOENT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
])

/**
 * Why an attempt failed. undici has the same codes for a response that was refused and for a connection that ended, so
 * our connector tells the two apart. A provider may bring a dispatcher of its own: then undici's codes have to do.
 * @param hasHead whether the head of a response had come
 */
export function failureReasonOf(error: Error, sent: boolean, hasHead = false): FailureReason {
  if (isCallerError(error)) return 'caller'
  if (error instanceof ManyhostError) {
    switch (error.code) {
      case 'MANYHOST_INSTANCE_ENDED':
        return 'ended'
      case 'MANYHOST_INSTANCE_UNHEALTHY':
        return 'unhealthy'
      case 'MANYHOST_ATTEMPT_TIMEOUT':
        return 'attempt-timeout'
      case 'MANYHOST_RETURNED':
        return 'returned'
      case 'MANYHOST_SESSION_CLOSED':
        return 'closed'
      default:
        return 'connection'
    }
  }
  const code = String((error as { code?: unknown }).code ?? '')
  if (code === 'UND_ERR_CONNECT_TIMEOUT' || (!sent && CONNECT_ERROR_CODES.has(code)))
    return 'connect'
  const failure = connectionFailureOf(error)
  if (failure !== undefined) return failure === 'refused' ? 'protocol' : 'connection'
  return isProtocolError(error, code, hasHead) ? 'protocol' : 'connection'
}

/** Whether undici's code means that the response is not valid HTTP. */
function isProtocolError(error: Error, code: string, hasHead: boolean): boolean {
  // The connection ended in the middle of a head or body.
  if (code === 'HPE_INVALID_EOF_STATE') return false
  // Before the head: the response has two lengths, which is refused. After it: the body broke off.
  if (code === 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH') return !hasHead
  // A parser error has no code if undici's list of codes does not have the parser's number.
  return error.name === 'HTTPParserError' || code === 'UND_ERR_HEADERS_OVERFLOW'
}

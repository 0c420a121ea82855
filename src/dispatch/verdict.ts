/** What to do about a failed attempt: pure functions of what is known. */
import { connectionFailureOf } from '../core/connector.ts'
import { ManyhostError } from '../core/errors.ts'
import type { ResendPolicy } from './settings.ts'

/** Why an attempt failed, as a label of bounded set for metrics and events. */
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
  /** Whether a part of the answer was passed on already. */
  readonly passedOn: boolean
  readonly method: string
  readonly hasIdempotencyKey: boolean
  readonly policy: ResendPolicy
  /** Attempts so far, this one included. */
  readonly attempts: number
  readonly maxAttempts: number
}

/** What to do next. */
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
export function mayRepeat(policy: ResendPolicy, method: string, keyed: boolean): boolean {
  if (policy === 'always') return true
  return policy === 'idempotent' && (keyed || isIdempotent(method))
}

export function decideVerdict(failure: AttemptFailure): ResendVerdict {
  if (failure.reason === 'caller' || failure.reason === 'closed') return failure.reason
  if (failure.passedOn) return 'interrupted'
  // Another instance would answer the same, and the request would be executed once more for nothing.
  if (failure.reason === 'protocol') return 'refused'
  // What was never sent, or was handed back unserved, is not repeated by being sent.
  const unserved = !failure.sent || failure.reason === 'returned'
  if (!unserved && !mayRepeat(failure.policy, failure.method, failure.hasIdempotencyKey))
    return 'forbidden'
  return failure.attempts >= failure.maxAttempts ? 'exhausted' : 'resend'
}

/** Codes by which undici refuses what the caller gave it. */
const CALLER_ERROR_CODES = new Set([
  'UND_ERR_INVALID_ARG',
  'UND_ERR_NOT_SUPPORTED',
  'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH',
])

/** The code for an error that is the caller's: of its body, or of what undici refused though nobody had before. */
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
 * Why an attempt failed. Whether its answer was refused for what it is, or its connection ended, says the connection: undici
 * has the same codes for both. Without a connection of ours (a provider may bring its own dispatcher) its codes are all
 * there is.
 * @param hasHead whether the head of an answer had come
 */
export function failureReasonOf(error: Error, sent: boolean, hasHead = false): FailureReason {
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
      case 'MANYHOST_BODY_FAILED':
      case 'MANYHOST_INVALID_OPTION':
      // A time limit that the caller gave for one part of the exchange.
      case 'MANYHOST_TIMEOUT':
        return 'caller'
      default:
        return 'connection'
    }
  }
  const code = String((error as { code?: unknown }).code ?? '')
  if (CALLER_ERROR_CODES.has(code)) return 'caller'
  if (code === 'UND_ERR_CONNECT_TIMEOUT' || (!sent && CONNECT_ERROR_CODES.has(code)))
    return 'connect'
  const fate = connectionFailureOf(error)
  if (fate !== undefined) return fate === 'refused' ? 'protocol' : 'connection'
  return isProtocolError(error, code, hasHead) ? 'protocol' : 'connection'
}

/** What undici's codes say of an answer, where nothing else is known. */
function isProtocolError(error: Error, code: string, hasHead: boolean): boolean {
  // The connection ended in the middle of a head or a body.
  if (code === 'HPE_INVALID_EOF_STATE') return false
  // Two lengths are refused before the head was there. Behind it, the body broke off.
  if (code === 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH') return !hasHead
  // undici's parser errors have no code where the parser's own number is beyond its list.
  return error.name === 'HTTPParserError' || code === 'UND_ERR_HEADERS_OVERFLOW'
}

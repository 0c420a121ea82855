/**
 * Checks whether a request can be sent. A request that undici would refuse must not take a slot: undici would refuse it
 * only after its wait in the queue, and an undici pool loses a connection for each request that it refuses. So the rules
 * of undici's `Request` are checked here first, and the caller is told which rule was broken.
 */
import { describe } from '../core/describe.ts'
import { ManyhostError } from '../core/errors.ts'

/** RFC 9110 section 5.6.2. */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
/** RFC 9110 section 5.5: no control characters except the tab, nothing beyond latin1. */
const INVALID_VALUE_CHARS = /[^\t\x20-\x7e\x80-\xff]/
/** A request target is written as latin1, without control characters and spaces. */
const INVALID_PATH_CHARS = /[^\x21-\xff]/
const DIGITS = /^\d+$/
/** Methods that need no further check. */
const COMMON_METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])

export function isToken(text: string): boolean {
  return TOKEN.test(text)
}

export function isFieldValue(text: string): boolean {
  return !INVALID_VALUE_CHARS.test(text)
}

export function invalidRequest(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_REQUEST', message)
}

/** @throws ManyhostError MANYHOST_INVALID_REQUEST for a method, path or protocol that cannot be sent */
export function checkTarget(method: unknown, path: unknown, upgrade: unknown): void {
  if (!COMMON_METHODS.has(method as string) && !(typeof method === 'string' && isToken(method))) {
    throw invalidRequest(`method: expected a token such as GET, got ${describe(method)}`)
  }
  if (typeof path !== 'string' || !isPath(path, method as string)) {
    throw invalidRequest(
      `path: expected '/' and then characters of latin1 without spaces and control characters, got ${describe(path)}`,
    )
  }
  if (upgrade !== undefined && !(typeof upgrade === 'string' && isFieldValue(upgrade))) {
    throw invalidRequest(`upgrade: expected the name of a protocol, got ${describe(upgrade)}`)
  }
}

export function isPath(path: string, method: string): boolean {
  const isForm = path.charCodeAt(0) === 47 || method === 'CONNECT' || /^https?:\/\//.test(path)
  return isForm && !INVALID_PATH_CHARS.test(path)
}

/** What the check of a request's headers found. */
export interface CheckedHeaders {
  /** The caller's `X-Request-Id`. */
  id: string | undefined
  hasIdempotencyKey: boolean
  hasHost: boolean
  hasType: boolean
  /** The value of `Content-Length`; -1 without one. */
  length: number
}

/**
 * Checks names and values in turn, in place. `Expect` is removed: the body is not read before an instance was chosen,
 * which is the purpose of 100-continue, and undici refuses to send it. `X-Manyhost-Attempt` is removed because manyhost
 * sends it itself.
 * @throws ManyhostError MANYHOST_INVALID_REQUEST
 */
export function checkHeaders(headers: string[]): CheckedHeaders {
  const seen: CheckedHeaders = {
    id: undefined,
    hasIdempotencyKey: false,
    hasHost: false,
    hasType: false,
    length: -1,
  }
  for (let index = 0; index < headers.length; index += 2) {
    const name = headers[index] as string
    const value = headers[index + 1] as string
    if (INVALID_VALUE_CHARS.test(value)) {
      throw invalidRequest(
        `headers: the value of ${describe(name)} has characters that no header can have: ${describe(value)}`,
      )
    }
    switch (name.toLowerCase()) {
      case 'x-request-id':
        seen.id ??= value
        break
      case 'idempotency-key':
        seen.hasIdempotencyKey = true
        break
      case 'host':
        if (seen.hasHost) throw invalidRequest('headers: more than one Host')
        seen.hasHost = true
        break
      case 'content-type':
        seen.hasType = true
        break
      case 'content-length':
        if (seen.length >= 0) throw invalidRequest('headers: more than one Content-Length')
        if (!DIGITS.test(value)) {
          throw invalidRequest(`headers: Content-Length must be digits, got ${describe(value)}`)
        }
        seen.length = Number(value)
        break
      case 'connection':
        if (!value.split(',').every((option) => isToken(option.trim()))) {
          throw invalidRequest(
            `headers: Connection must be a list of tokens, got ${describe(value)}`,
          )
        }
        break
      case 'transfer-encoding':
      case 'keep-alive':
      case 'upgrade':
        throw invalidRequest(
          `headers: ${name} is about one connection, and manyhost sends it itself where it is needed; leave it out`,
        )
      case 'expect':
      case 'x-manyhost-attempt':
        headers.splice(index, 2)
        index -= 2
        break
      default:
        if (!isToken(name)) {
          throw invalidRequest(
            `headers: a name has characters that no name can have: ${describe(name)}`,
          )
        }
    }
  }
  return seen
}

/** Methods for which undici sends no length if there is no body, whatever the header says. */
const METHODS_WITHOUT_LENGTH = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'CONNECT'])

/**
 * Checks that a body of known length has the length that its header declares.
 * @throws ManyhostError MANYHOST_INVALID_REQUEST
 */
export function checkLength(
  method: string,
  declared: number,
  body: string | Uint8Array | null,
): void {
  if (body === null || METHODS_WITHOUT_LENGTH.has(method)) return
  const actual = Buffer.byteLength(body)
  if (actual !== 0 && actual !== declared) throw lengthMismatch(declared, actual)
}

export function lengthMismatch(declared: number, actual: number): ManyhostError {
  return invalidRequest(`headers: Content-Length is ${declared}, but the body has ${actual} bytes`)
}

/** The request options of undici whose type undici checks. */
interface UndiciOptions {
  readonly upgrade?: unknown
  readonly headersTimeout?: unknown
  readonly bodyTimeout?: unknown
  readonly reset?: unknown
  readonly expectContinue?: unknown
  readonly throwOnError?: unknown
  readonly maxRedirections?: unknown
  readonly typeOfService?: unknown
}

/** @throws ManyhostError MANYHOST_INVALID_REQUEST for an option that undici would refuse */
export function checkUndiciOptions(options: object): void {
  const { headersTimeout, bodyTimeout, reset, expectContinue, throwOnError, maxRedirections } =
    options as UndiciOptions
  const { typeOfService } = options as UndiciOptions
  if (headersTimeout != null) checkDuration('headersTimeout', headersTimeout)
  if (bodyTimeout != null) checkDuration('bodyTimeout', bodyTimeout)
  if (reset != null) checkFlag('reset', reset)
  if (expectContinue != null) checkFlag('expectContinue', expectContinue)
  if (throwOnError != null) {
    throw invalidRequest(
      'throwOnError: undici no longer has this option; use interceptors.responseError()',
    )
  }
  if (maxRedirections != null && maxRedirections !== 0) {
    throw invalidRequest(
      'maxRedirections: undici no longer has this option; use interceptors.redirect()',
    )
  }
  if (typeOfService != null && !isByte(typeOfService)) {
    const got = describe(typeOfService)
    throw invalidRequest(`typeOfService must be a whole number from 0 to 255, got ${got}`)
  }
}

function isByte(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 255
}

function checkDuration(name: string, given: unknown): void {
  if (Number.isFinite(given) && (given as number) >= 0) return
  throw invalidRequest(
    `${name} must be milliseconds from 0 up (0: no limit), got ${describe(given)}`,
  )
}

function checkFlag(name: string, given: unknown): void {
  if (typeof given === 'boolean') return
  throw invalidRequest(`${name} must be true or false, got ${describe(given)}`)
}

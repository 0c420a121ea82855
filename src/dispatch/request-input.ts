/** Headers of callers as names and values in turn, and the headers that manyhost adds to every request. */
import { randomBytes } from 'node:crypto'
import { ManyhostError } from '../core/errors.ts'
import type { PreparedBody } from './body.ts'
import type { ConnectionOptions, RequestInput } from './exchange.ts'
import { Replay } from './replay.ts'
import type { ResendPolicy } from './settings.ts'
import {
  type CheckedHeaders,
  checkHeaders,
  checkLength,
  checkTarget,
  invalidRequest,
  isFieldValue,
  lengthMismatch,
} from './validate-request.ts'
import { isIdempotent } from './verdict.ts'

export type HeaderValue =
  | string
  | number
  | readonly (string | number | null | undefined)[]
  | null
  | undefined

/** Headers by name (several values in an array), as pairs, or names and values in turn. */
export type HeadersLike =
  | Readonly<Record<string, HeaderValue>>
  | Iterable<readonly [string, HeaderValue]>
  | readonly string[]

/** Options of a request about its way to an instance, as opposed to its content. */
export interface RequestRouting {
  /** Higher ones are served first. Any finite number. @default 0 */
  readonly priority?: number | undefined
  /** Requests with the same key go to the same instance while it has a free slot. */
  readonly affinity?: string | undefined
  readonly resend?: ResendPolicy | undefined
  /** Sent as `Idempotency-Key`. With it, a request of any method counts as repeatable. */
  readonly idempotencyKey?: string | undefined
  /** Milliseconds for all attempts together, to the end of the response's body. 0: no limit. */
  readonly timeout?: number | undefined
}

/**
 * Headers in any form as names and values in turn. Repeated headers stay repeated.
 * @param nothing what null means: no header, or a header with an empty value, as in undici
 * @throws ManyhostError MANYHOST_INVALID_REQUEST
 */
export function flattenHeaders(
  given: HeadersLike,
  nothing: 'absent' | 'empty' = 'absent',
): string[] {
  if (typeof given !== 'object' || given === null) {
    throw invalidRequest(`headers: expected an object or an array, got ${typeof given}`)
  }
  const flat: string[] = []
  if (Array.isArray(given) && typeof given[0] === 'string') {
    if (given.length % 2 !== 0) throw oddHeadersError(given.length)
    for (let i = 0; i < given.length; i += 2) addHeader(flat, given[i], given[i + 1], nothing)
  } else if (isIterable(given)) {
    for (const pair of given as Iterable<unknown>) {
      if (!Array.isArray(pair) || pair.length !== 2) {
        throw invalidRequest('headers: expected pairs of a name and a value')
      }
      addHeader(flat, pair[0], pair[1], nothing)
    }
  } else {
    for (const [name, value] of Object.entries(given)) addHeader(flat, name, value, nothing)
  }
  return flat
}

function addHeader(
  flat: string[],
  name: unknown,
  value: unknown,
  nothing: 'absent' | 'empty',
): void {
  if (typeof name !== 'string') {
    throw invalidRequest(`headers: a name is a string, got a value of type ${typeof name}`)
  }
  if (!Array.isArray(value)) addHeaderValue(flat, name, value, nothing)
  else for (const one of value) addHeaderValue(flat, name, one, nothing)
}

function addHeaderValue(flat: string[], name: string, value: unknown, nothing: string): void {
  switch (typeof value) {
    case 'string':
      flat.push(name, value)
      return
    case 'number':
    case 'bigint':
    case 'boolean':
      flat.push(name, String(value))
      return
    case 'undefined':
      return
  }
  if (value !== null) {
    throw invalidRequest(
      `headers: the value of ${JSON.stringify(name)} is a text, a number or an array of them, got a value of type ${typeof value}`,
    )
  }
  if (nothing === 'empty') flat.push(name, '')
}

function isIterable(given: HeadersLike): given is Iterable<readonly [string, HeaderValue]> {
  return Symbol.iterator in given
}

function oddHeadersError(length: number): ManyhostError {
  return new ManyhostError(
    'MANYHOST_INVALID_OPTION',
    `headers: names and values in turn make an even number, got ${length}`,
  )
}

/** Makes ids of requests: unique over sessions and machines by a random prefix, and cheap by a counter. */
export class RequestIds {
  readonly #prefix = `${randomBytes(9).toString('base64url')}-`
  #count = 0

  next(): string {
    this.#count++
    return this.#prefix + this.#count.toString(36)
  }
}

export interface RequestInputParts {
  readonly method: string
  readonly path: string
  /** Authority of the virtual URL: sent as `Host`. */
  readonly host: string
  /** Names and values in turn. The array is taken over. */
  readonly headers: string[]
  readonly body: PreparedBody
  readonly upgrade?: string | undefined
  readonly routing: RequestRouting
  readonly connection?: ConnectionOptions | undefined
  readonly ids: RequestIds
}

/**
 * The input of an exchange, with the headers that manyhost adds: `Host`, `Content-Type`, `Content-Length` if the length
 * of the body is known, `X-Request-Id` and `Idempotency-Key` (each kept if the caller sent it), and `X-Manyhost-Attempt`,
 * which is always the last one. Every request passes here before it takes a slot, so a request that cannot be sent
 * never takes one.
 * @throws ManyhostError MANYHOST_INVALID_REQUEST
 */
export function buildRequestInput(parts: RequestInputParts): RequestInput {
  try {
    return buildCheckedInput(parts)
  } catch (error) {
    // No other code has this body yet, so it is released here.
    if (parts.body.body instanceof Replay) parts.body.body.dispose()
    throw error
  }
}

function buildCheckedInput(parts: RequestInputParts): RequestInput {
  const { method, headers, routing, body } = parts
  checkTarget(method, parts.path, parts.upgrade)
  const plain =
    headers.length === 0 && body.contentType === undefined && routing.idempotencyKey === undefined
  if (plain && isIdempotent(method)) return buildPlainInput(parts)
  const seen = checkHeaders(headers)
  addContent(headers, seen, method, body)
  let { id, hasIdempotencyKey } = seen
  if (!seen.hasHost) headers.push('host', parts.host)
  if (id === undefined) {
    id = parts.ids.next()
    headers.push('x-request-id', id)
  }
  if (!hasIdempotencyKey && routing.idempotencyKey !== undefined) {
    headers.push('idempotency-key', requireValidKey(routing.idempotencyKey))
    hasIdempotencyKey = true
  } else if (!hasIdempotencyKey && !isIdempotent(method)) {
    headers.push('idempotency-key', id)
  }
  headers.push('x-manyhost-attempt', '1')
  return assembleInput(parts, headers, id, hasIdempotencyKey)
}

/** Adds the headers that the body determines, unless the caller gave them. */
function addContent(
  headers: string[],
  seen: CheckedHeaders,
  method: string,
  { body, contentType: type, length }: PreparedBody,
): void {
  if (seen.length >= 0 && !(body instanceof Replay)) checkLength(method, seen.length, body)
  if (length !== undefined) {
    if (seen.length < 0) headers.push('content-length', String(length))
    else if (seen.length !== length) throw lengthMismatch(seen.length, length)
  }
  if (type !== undefined && !seen.hasType) headers.push('content-type', type)
}

function requireValidKey(key: string): string {
  if (isFieldValue(key)) return key
  throw invalidRequest(
    `idempotencyKey has characters that no header can have: ${JSON.stringify(key)}`,
  )
}

/** Most requests bring no headers. An array created at its full length costs less than half of one that grows. */
function buildPlainInput(parts: RequestInputParts): RequestInput {
  const id = parts.ids.next()
  const headers = ['host', parts.host, 'x-request-id', id, 'x-manyhost-attempt', '1']
  return assembleInput(parts, headers, id, false)
}

function assembleInput(
  { method, path, body, upgrade, routing, connection }: RequestInputParts,
  headers: string[],
  id: string,
  hasIdempotencyKey: boolean,
): RequestInput {
  return {
    id,
    method,
    path,
    headers,
    body: body.body,
    upgrade,
    priority: routing.priority,
    affinity: routing.affinity,
    resend: routing.resend,
    timeout: routing.timeout,
    hasIdempotencyKey,
    connection,
  }
}

/**
 * The input of an exchange with the network: manyhost adds none of its own headers.
 * @throws ManyhostError MANYHOST_INVALID_REQUEST
 */
export function buildNetworkInput(parts: Omit<RequestInputParts, 'ids'>): RequestInput {
  const { method, path, headers, routing, body } = parts
  checkTarget(method, path, undefined)
  const seen = checkHeaders(headers)
  addContent(headers, seen, method, body)
  if (routing.idempotencyKey !== undefined && !seen.hasIdempotencyKey) {
    headers.push('idempotency-key', requireValidKey(routing.idempotencyKey))
  }
  return { id: '', method, path, headers, body: body.body, timeout: routing.timeout }
}

/** Headers as callers give them, as pairs in a row; and the headers that every request gets on its way. */
import { randomBytes } from 'node:crypto'
import { ManyhostError } from '../errors.ts'
import type { PreparedBody } from './body.ts'
import type { RequestFacts } from './exchange.ts'
import type { ResendPolicy } from './settings.ts'
import { isIdempotent } from './verdict.ts'

export type HeaderValue = string | number | readonly (string | number)[] | null | undefined

/** Headers by name (several values in an array), as pairs, or names and values in turn. */
export type HeadersLike =
  | Readonly<Record<string, HeaderValue>>
  | Iterable<readonly [string, HeaderValue]>
  | readonly string[]

/** Options that a request has for its way, as opposed to those for its content. */
export interface RequestRouting {
  /** Higher ones are served first. Any finite number. @default 0 */
  readonly priority?: number | undefined
  /** Requests with the same key go to the same instance while it has a free place. */
  readonly affinity?: string | undefined
  readonly resend?: ResendPolicy | undefined
  /** Sent as `Idempotency-Key`: with it, a request of any method counts as one that may be repeated. */
  readonly idempotencyKey?: string | undefined
  /** Milliseconds for all attempts together, to the end of the answer's body. 0: no limit. */
  readonly timeout?: number | undefined
}

/** Appends what the caller gave to `flat`, names and values in turn; repeated ones stay repeated. */
export function flattenHeaders(given: HeadersLike, flat: string[] = []): string[] {
  if (Array.isArray(given) && typeof given[0] === 'string') {
    if (given.length % 2 !== 0) throw oddHeaders(given.length)
    for (const text of given) flat.push(String(text))
    return flat
  }
  const pairs = isIterable(given)
    ? given
    : Object.entries(given as Readonly<Record<string, HeaderValue>>)
  for (const [name, value] of pairs) {
    if (value === undefined || value === null) continue
    if (Array.isArray(value)) for (const one of value) flat.push(name, String(one))
    else flat.push(name, String(value))
  }
  return flat
}

function isIterable(given: HeadersLike): given is Iterable<readonly [string, HeaderValue]> {
  return Symbol.iterator in given
}

function oddHeaders(length: number): ManyhostError {
  return new ManyhostError(
    'MANYHOST_INVALID_OPTION',
    `headers: names and values in turn make an even number, got ${length}`,
  )
}

/** Numbers requests: unique over sessions and machines by a random beginning, cheap by counting on. */
export class RequestIds {
  readonly #prefix = `${randomBytes(9).toString('base64url')}-`
  #count = 0

  next(): string {
    this.#count++
    return this.#prefix + this.#count.toString(36)
  }
}

export interface FactsParts {
  readonly method: string
  readonly path: string
  /** Authority of the virtual URL: sent as `Host`. */
  readonly host: string
  /** Names and values in turn; taken over. */
  readonly headers: string[]
  readonly body: PreparedBody
  readonly upgrade?: string | undefined
  readonly routing: RequestRouting
  readonly ids: RequestIds
}

/**
 * The facts of a request with the headers that go with it: `Host`, `Content-Type`, `X-Request-Id`, `Idempotency-Key`
 * (each kept if the caller sent it), and `X-Manyhost-Attempt`, always the last one.
 */
export function requestFacts(parts: FactsParts): RequestFacts {
  const { method, headers, routing, body } = parts
  const plain =
    headers.length === 0 && body.type === undefined && routing.idempotencyKey === undefined
  if (plain && isIdempotent(method)) return plainFacts(parts)
  let id: string | undefined
  let keyed = false
  let hasHost = false
  let hasType = body.type === undefined
  for (let index = 0; index < headers.length; index += 2) {
    switch ((headers[index] as string).toLowerCase()) {
      case 'x-request-id':
        id ??= headers[index + 1]
        break
      case 'idempotency-key':
        keyed = true
        break
      case 'host':
        hasHost = true
        break
      case 'content-type':
        hasType = true
        break
      case 'expect':
      case 'x-manyhost-attempt':
        // Expect: the body is not read before an instance was chosen, which is what 100-continue is for; undici
        // refuses to send it.
        headers.splice(index, 2)
        index -= 2
        break
    }
  }
  if (!hasHost) headers.push('host', parts.host)
  if (!hasType) headers.push('content-type', body.type as string)
  if (id === undefined) {
    id = parts.ids.next()
    headers.push('x-request-id', id)
  }
  if (!keyed && routing.idempotencyKey !== undefined) {
    headers.push('idempotency-key', routing.idempotencyKey)
    keyed = true
  } else if (!keyed && !isIdempotent(method)) {
    headers.push('idempotency-key', id)
  }
  headers.push('x-manyhost-attempt', '1')
  return assembled(parts, headers, id, keyed)
}

/** Most requests bring no headers: an array made at its full length takes less than half of one that grew. */
function plainFacts(parts: FactsParts): RequestFacts {
  const id = parts.ids.next()
  const headers = ['host', parts.host, 'x-request-id', id, 'x-manyhost-attempt', '1']
  return assembled(parts, headers, id, false)
}

function assembled(
  { method, path, body, upgrade, routing }: FactsParts,
  headers: string[],
  id: string,
  keyed: boolean,
): RequestFacts {
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
    keyed,
  }
}

/** The facts of a request that goes to the network: none of our headers go with it. */
export function networkFacts(parts: Omit<FactsParts, 'ids'>): RequestFacts {
  const { method, path, headers, routing, body } = parts
  const has = (wanted: string): boolean =>
    headers.some((name, index) => index % 2 === 0 && name.toLowerCase() === wanted)
  if (body.type !== undefined && !has('content-type')) headers.push('content-type', body.type)
  if (routing.idempotencyKey !== undefined && !has('idempotency-key')) {
    headers.push('idempotency-key', routing.idempotencyKey)
  }
  return { id: '', method, path, headers, body: body.body, timeout: routing.timeout }
}

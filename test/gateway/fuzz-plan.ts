/**
 * What one connection of the fuzz test sends, and what the instance answers: drawn from a grammar of HTTP, with faults.
 * All of it follows from a seed.
 */
import { seededRandom } from '../random.ts'
import { RandomDraw } from './fuzz-draw.ts'
import { planResponse, type ResponsePlan } from './fuzz-responses.ts'

export const MAX_ATTEMPTS = 3

export interface RequestPlan {
  readonly id: string
  readonly method: string
  readonly version: '1.0' | '1.1'
  /** Names and values. */
  readonly headers: readonly (readonly [string, string])[]
  readonly body: string
  readonly isChunked: boolean
  readonly answer: ResponsePlan
}

export interface ConnectionPlan {
  readonly seed: number
  readonly isTwo: boolean
  readonly requests: readonly RequestPlan[]
  /** HTTP/1.1: the bytes, in pieces. */
  readonly pieces: readonly string[]
  /** Whether the last request is no HTTP any more. */
  readonly isMutated: boolean
  /** What the client does: waits, ends its half after its last byte, or goes after so many pieces or turns. */
  readonly end: 'wait' | 'half' | { readonly after: number; readonly how: 'fin' | 'reset' }
}

const METHODS = [
  'GET',
  'GET',
  'GET',
  'HEAD',
  'POST',
  'POST',
  'PUT',
  'DELETE',
  'OPTIONS',
  'PATCH',
  'QUERY',
] as const

export function planConnection(seed: number): ConnectionPlan {
  const draw = new RandomDraw(seededRandom(seed))
  const isTwo = draw.chance(35)
  const requests: RequestPlan[] = []
  for (let count = 1 + draw.below(4); count > 0; count--) {
    requests.push(planRequest(draw, isTwo, count === 1))
    if (requests.at(-1)?.version === '1.0') break
  }
  const isMutated = !isTwo && draw.chance(15)
  const texts = requests.map((request, index) => bytesOf(request, index === requests.length - 1))
  if (isMutated) texts.push(draw.mutated(texts.pop() as string))
  const pieces = draw.pieces(texts.join(''), 6)
  const isGone = draw.chance(15)
  const end = isGone
    ? {
        after: draw.below(isTwo ? 20 : pieces.length + 4),
        how: draw.one(['fin', 'reset'] as const),
      }
    : // Nobody knows whether a mutated request ends its connection.
      isMutated || draw.chance(20)
      ? 'half'
      : 'wait'
  return { seed, isTwo, requests, pieces, isMutated, end }
}

function planRequest(draw: RandomDraw, isTwo: boolean, isLast: boolean): RequestPlan {
  const id = draw.id()
  const method = draw.one(METHODS)
  const version = !isTwo && isLast && draw.chance(10) ? '1.0' : '1.1'
  const mayHaveBody = method !== 'GET' && method !== 'HEAD'
  const size = mayHaveBody || draw.chance(5) ? draw.one([0, 1, 10, 1_000, 70_000, 200_000]) : 0
  const isChunked = size > 0 && version === '1.1' && draw.chance(40)
  const headers: [string, string][] = []
  for (let count = draw.below(4); count > 0; count--) {
    const name = draw.one([
      'x-b',
      'constructor',
      '__proto__',
      'Accept',
      'Cookie',
      'X-Manyhost-Return',
      'Via',
    ])
    headers.push([name, draw.one(['a', 'b, c', '\xe9', '"x"'])])
  }
  if (!isTwo && draw.chance(15)) {
    headers.push(
      ['Connection', 'Upgrade, HTTP2-Settings'],
      ['Upgrade', draw.one(['h2c', 'TLS/1.0', 'h2, http/1.1'])],
    )
    headers.push(['HTTP2-Settings', 'AAMAAABk'])
  }
  if (size > 0 && version === '1.1' && draw.chance(10)) headers.push(['Expect', '100-continue'])
  const answer = planResponse(draw, { id, size, isHead: method === 'HEAD' })
  return { id, method, version, headers, body: 'b'.repeat(size), isChunked, answer }
}

/** The bytes of a request. The last one ends the connection. */
export function bytesOf(plan: RequestPlan, isLast: boolean): string {
  const { id, method, version, headers, body, isChunked } = plan
  let text = `${method} /calc/${id} HTTP/${version}\r\nHost: x\r\nX-Fuzz: ${id}\r\nX-Request-Id: ${id}\r\n`
  for (const [name, value] of headers) text += `${name}: ${value}\r\n`
  if (isLast) text += 'Connection: close\r\n'
  if (isChunked) {
    const half = Math.ceil(body.length / 2)
    const chunks = [body.slice(0, half), body.slice(half)].filter((chunk) => chunk !== '')
    const coded = chunks.map((chunk) => `${chunk.length.toString(16)}\r\n${chunk}\r\n`).join('')
    return `${text}Transfer-Encoding: chunked\r\n\r\n${coded}0\r\n\r\n`
  }
  return body === '' ? `${text}\r\n` : `${text}Content-Length: ${body.length}\r\n\r\n${body}`
}

/** Its headers over HTTP/2. */
export function headersOf({ id, method, headers }: RequestPlan): Record<string, string> {
  const all: Record<string, string> = Object.create(null)
  for (const [name, value] of headers) {
    if (!/^(?:connection|upgrade|http2-settings)$/i.test(name)) all[name.toLowerCase()] = value
  }
  return Object.assign(all, {
    ':method': method,
    ':path': `/calc/${id}`,
    ':authority': 'x',
    'x-fuzz': id,
    'x-request-id': id,
  })
}

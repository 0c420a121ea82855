/**
 * What one connection of the fuzz test sends, and what the instance answers: drawn from a grammar of HTTP, with faults.
 * All of it follows from a seed.
 */
import { type Random, seeded } from '../../providers/testing/fault-plan.ts'

export const MAX_ATTEMPTS = 3

/** What the rules say of an answer. */
export type Kind =
  /** It is passed on as it is; asked for once. */
  | 'good'
  /** It is refused for what it is, or cut off; asked for once. */
  | 'refused'
  /** The connection ends before the answer does; asked for as often as `maxAttempts` says. */
  | 'broken'
  /** Nobody knows; it may be asked for as often as a broken one. */
  | 'mutated'

export interface AnswerPlan {
  readonly kind: Kind
  readonly status: number
  /** What is to arrive of it, where content may. */
  readonly body: string
  readonly pieces: readonly string[]
  readonly end: 'keep' | 'fin' | 'reset' | 'fin-reset'
  /** Answered as soon as the request's head is there. */
  readonly isEarly: boolean
}

export interface RequestPlan {
  readonly id: string
  readonly method: string
  readonly version: '1.0' | '1.1'
  /** Names and values. */
  readonly headers: readonly (readonly [string, string])[]
  readonly body: string
  readonly isChunked: boolean
  readonly answer: AnswerPlan
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

/** Marks what belongs to a request; no mutation makes one out of another. */
export function mark(id: string): string {
  return `<<${id}>>`
}

const NAMES = [
  'x-a',
  'constructor',
  '__proto__',
  'Host',
  'Authorization',
  'From',
  'User-Agent',
  'If-None-Match',
  'Range',
  'TE',
  'Keep-Alive',
  'Proxy-Connection',
  'HTTP2-Settings',
  'Trailer',
  'Content-Disposition',
  'Date',
  'Set-Cookie',
  'ETag',
  'Via',
  'X-Manyhost-Attempt',
  'Link',
  'Content-Language',
  'Vary',
  'Proxy-Authenticate',
  'toString',
  'Upgrade',
] as const
const VALUES = [
  'a',
  '',
  '\xe9',
  '\xc3\xa9',
  'a, b',
  'close',
  '"x"',
  'b \t',
  'chunked',
  'trailers',
  'x'.repeat(300),
] as const
const PHRASES = [
  'OK',
  '',
  'Not \xfcber',
  '\xc3\xbcber',
  'a\tb',
  '\xf0\x9f\x98\x80',
  'x'.repeat(200),
] as const
const STATUSES = [
  200, 200, 200, 201, 202, 204, 205, 206, 226, 301, 304, 400, 401, 404, 413, 418, 500, 502, 599,
  600, 999,
]
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

class Draw {
  readonly random: Random

  constructor(random: Random) {
    this.random = random
  }

  below(count: number): number {
    return Math.floor(this.random() * count)
  }

  one<T>(all: readonly T[]): T {
    return all[this.below(all.length)] as T
  }

  chance(percent: number): boolean {
    return this.random() * 100 < percent
  }

  id(): string {
    return Math.floor(this.random() * 0x1_0000_0000)
      .toString(16)
      .padStart(8, '0')
  }

  /** Cut at random places. */
  pieces(text: string, most: number): string[] {
    const cuts = Array.from({ length: this.below(most) }, () => this.below(text.length + 1))
    const places = [0, ...cuts.sort((a, b) => a - b), text.length]
    return places.slice(1).map((end, index) => text.slice(places[index], end))
  }

  chunks(body: string): string {
    const pieces = body === '' ? [] : this.pieces(body, 4).filter((piece) => piece !== '')
    const extension = this.chance(10) ? ';a=b' : ''
    return pieces
      .map((piece) => `${piece.length.toString(16)}${extension}\r\n${piece}\r\n`)
      .join('')
  }

  lines(most: number): string {
    let lines = ''
    for (let count = this.below(most); count > 0; count--) {
      const line = `${this.one(NAMES)}: ${this.one(VALUES)}\r\n`
      lines += this.chance(25) ? line + line : line
    }
    return lines
  }

  mutated(text: string): string {
    let bytes = text
    for (let count = 1 + this.below(3); count > 0; count--) {
      const at = this.below(bytes.length)
      const byte = String.fromCharCode(
        this.chance(50) ? this.below(256) : this.one([0, 9, 10, 13, 32, 44, 58, 127]),
      )
      const skipped = at + this.one([0, 1, 1, 1, 2, 5])
      bytes = bytes.slice(0, at) + (this.chance(80) ? byte : '') + bytes.slice(skipped)
    }
    return bytes
  }
}

export function planConnection(seed: number): ConnectionPlan {
  const draw = new Draw(seeded(seed))
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

function planRequest(draw: Draw, isTwo: boolean, isLast: boolean): RequestPlan {
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
  const answer = planAnswer(draw, { id, size, isHead: method === 'HEAD' })
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

const FAULTS: readonly ((body: string) => string)[] = [
  (body) => `HTTP/1.1 200 OK\r\ncontent-length: ${body.length}\r\ncontent-length: 1\r\n\r\n${body}`,
  (body) => `HTTP/1.1 200 OK\r\ncontent-length: ${body.length}, 1\r\n\r\n${body}`,
  (body) => `HTTP/1.1 200 OK\r\ncontent-length: abc\r\n\r\n${body}`,
  (body) => `HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n${body}`,
  (body) => `HTTP/1.1 200 OK\r\nx-a: b\r\n c\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  (body) => `HTTP/1.1 200 OK\r\nx-a: b\x00c\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  (body) => `HTTP/1.1 200 OK\r\nx a: b\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  (body) => `HTTP/1.1 200 OK\r\n: b\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  (body) => `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n${body}\r\n0\r\n\r\n`,
  (body) => `HTTP/7.7 200 OK\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  (body) => `200 OK\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  () => 'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n',
]

interface Asked {
  readonly id: string
  /** Of the request's body. */
  readonly size: number
  readonly isHead: boolean
}

function planAnswer(draw: Draw, { id, size, isHead }: Asked): AnswerPlan {
  const isEarly = size > 0 && draw.chance(20)
  const body = draw.chance(15) ? '' : mark(id).repeat(draw.one([1, 1, 5, 100, 8_000]))
  // Behind a HEAD each body is too much, and meets the next request.
  if (draw.chance(12) && !isHead) {
    const pieces = draw.pieces(draw.one(FAULTS)(body), 3)
    return {
      kind: 'refused',
      status: 502,
      body: '',
      pieces,
      end: draw.one(['keep', 'fin']),
      isEarly,
    }
  }
  const status = draw.one(STATUSES)
  const plan = framed(draw, { status, body, isHead })
  if (draw.chance(10)) {
    // In one piece, and the end behind it: what is too much of it must not meet the next request.
    const pieces = [draw.mutated(plan.text.slice(0, 8_000))]
    return { kind: 'mutated', status, body: '', pieces, end: 'fin', isEarly }
  }
  if (draw.chance(10)) {
    const pieces = draw.pieces(plan.text.slice(0, draw.below(plan.text.length)), 3)
    // A part that is a whole answer in its own right, and one whose end its connection's end makes, tell nobody.
    return { kind: 'mutated', status, body: '', pieces, end: draw.one(['fin', 'reset']), isEarly }
  }
  if (draw.chance(5))
    return {
      kind: 'broken',
      status: 502,
      body: '',
      pieces: [],
      end: draw.one(['fin', 'reset']),
      isEarly,
    }
  return { kind: 'good', status, body, pieces: draw.pieces(plan.text, 5), end: plan.end, isEarly }
}

interface Content {
  readonly status: number
  readonly body: string
  readonly isHead: boolean
}

function framed(
  draw: Draw,
  { status, body, isHead }: Content,
): { text: string; end: AnswerPlan['end'] } {
  let text = ''
  for (let count = draw.chance(15) ? 1 + draw.below(3) : 0; count > 0; count--) {
    text += `HTTP/1.1 ${draw.one([100, 102, 103])} X\r\n${draw.chance(50) ? 'link: </a>; rel=x\r\n' : ''}\r\n`
  }
  const version = draw.chance(10) ? '1.0' : '1.1'
  text += `HTTP/${version} ${status} ${draw.one(PHRASES)}\r\n${draw.lines(6)}`
  // Its frame stands for nothing.
  if (status === 204 || status === 304) {
    return {
      text: `${text}${draw.one(['', 'content-length: 9\r\n', 'trailer: x\r\n'])}connection: close\r\n\r\n`,
      end: 'fin',
    }
  }
  const end = draw.chance(30) ? draw.one(['fin', 'fin-reset'] as const) : 'keep'
  if (end !== 'keep') text += 'connection: close\r\n'
  if (version === '1.1' && draw.chance(35)) {
    const trailers = draw.chance(50) ? draw.lines(3) : ''
    const content = isHead ? '' : `${draw.chunks(body)}0\r\n${trailers}\r\n`
    return { text: `${text}transfer-encoding: chunked\r\n\r\n${content}`, end }
  }
  const content = isHead ? '' : body
  if (end !== 'keep' && draw.chance(30)) return { text: `${text}\r\n${content}`, end }
  const length = `content-length: ${body.length}`
  const lengths = draw.one([length, length, `${length}\r\n${length}`, `${length}, ${body.length}`])
  const stays = version === '1.0' && end === 'keep' ? 'connection: keep-alive\r\n' : ''
  return { text: `${text}${lengths}\r\n${stays}\r\n${content}`, end }
}

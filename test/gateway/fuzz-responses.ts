/** What the instance of the fuzz test answers: drawn from a grammar, with faults. */
import type { RandomDraw } from './fuzz-draw.ts'

/** What the rules say of an answer. */
export type ResponseFault =
  /** It is passed on as it is; asked for once. */
  | 'good'
  /** It is refused for what it is, or cut off; asked for once. */
  | 'refused'
  /** The connection ends before the answer does; asked for as often as `maxAttempts` says. */
  | 'broken'
  /** Nobody knows; it may be asked for as often as a broken one. */
  | 'mutated'

export interface ResponsePlan {
  readonly kind: ResponseFault
  readonly status: number
  /** What is to arrive of it, where content may. */
  readonly body: string
  readonly pieces: readonly string[]
  readonly end: 'keep' | 'fin' | 'reset' | 'fin-reset'
  /** Answered as soon as the request's head is there. */
  readonly isEarly: boolean
}

/** Marks what belongs to a request; no mutation makes one out of another. */
export function markOf(id: string): string {
  return `<<${id}>>`
}

/** Bytes that a connection of one machine takes without a reader, and far fewer. */
const WINDOW = 32_768

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

export function planResponse(draw: RandomDraw, { id, size, isHead }: Asked): ResponsePlan {
  const isEarly = size > 0 && draw.chance(20)
  const body = draw.chance(15) ? '' : markOf(id).repeat(draw.one([1, 1, 5, 100, 8_000]))
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
  draw: RandomDraw,
  { status, body, isHead }: Content,
): { text: string; end: ResponsePlan['end'] } {
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
  const drawn = draw.chance(30) ? draw.one(['fin', 'fin-reset'] as const) : 'keep'
  // A reset takes back what has not fitted into the other end's window.
  const end = drawn === 'fin-reset' && body.length > WINDOW ? 'fin' : drawn
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

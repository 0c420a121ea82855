/** What becomes of the heads of answers before undici's parser has them, however the bytes are cut. */

import { describe, expect, test } from 'vitest'
import {
  MAX_INFORMATIONAL_RESPONSES,
  ResponseHeadFilter,
} from '../../src/core/http/response-head-filter.ts'
import fc from '../properties.ts'

const GET = 'GET / HTTP/1.1\r\nhost: x\r\n'
const UPGRADE = `${GET}connection: upgrade\r\nupgrade: websocket\r\n`
const OK = 'HTTP/1.1 200 OK\r\n'
const CHUNKED = `${OK}transfer-encoding: chunked\r\n\r\n`

/** What the parser gets; after the final head nothing is looked at any more. */
function read(pieces: readonly string[], request = GET): string {
  const heads = new ResponseHeadFilter()
  heads.startRequest(request)
  const out = pieces.map((piece) => {
    const bytes = Buffer.from(piece, 'latin1')
    return heads.isExpecting ? heads.filter(bytes) : bytes
  })
  return Buffer.concat(out).toString('latin1')
}

function cutAt(text: string, cuts: readonly number[]): string[] {
  const ends = [...new Set(cuts.map((cut) => cut % (text.length + 1)))].sort((a, b) => a - b)
  return [0, ...ends].map((from, index) => text.slice(from, ends[index] ?? text.length))
}

const CHANGED: readonly [string, string, string, string?][] = [
  ['a 100 is left out', `HTTP/1.1 100 Continue\r\n\r\n${OK}\r\n`, `${OK}\r\n`],
  [
    'each 100, with its fields',
    `HTTP/1.1 100 Continue\r\nX: y\r\nContent-Length: 1\r\n\r\nHTTP/1.0 100\r\n\r\n${OK}x: y\r\n\r\nbody`,
    `${OK}x: y\r\n\r\nbody`,
  ],
  [
    'a 100 between others',
    `HTTP/1.1 103 E\r\nlink: a\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 102 P\r\n\r\n${OK}\r\n`,
    `HTTP/1.1 103 E\r\nlink: a\r\n\r\nHTTP/1.1 102 P\r\n\r\n${OK}\r\n`,
  ],
  [
    'one length in two fields',
    `${OK}Content-Length: 5\r\nx: y\r\ncontent-length:5 \r\n\r\nhello`,
    `${OK}Content-Length: 5\r\nx: y\r\n\r\nhello`,
  ],
  [
    'one length twice in a field',
    `${OK}Content-Length: 5, 5\r\n\r\nhello`,
    `${OK}Content-Length: 5\r\n\r\nhello`,
  ],
  [
    'one length in all ways',
    `${OK}CONTENT-LENGTH: 5,5 ,5\r\ncontent-length: 5, 5\r\n\r\nhello`,
    `${OK}CONTENT-LENGTH: 5\r\n\r\nhello`,
  ],
  [
    'the length of an informational answer, and not that of the final one',
    `HTTP/1.1 103 E\r\ncontent-length: 5\r\n\r\n${OK}content-length: 5\r\n\r\nhello`,
    `HTTP/1.1 103 E\r\n\r\n${OK}content-length: 5\r\n\r\nhello`,
  ],
  [
    'a 101 without Connection',
    'HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\nbytes\r\n\r\n',
    'HTTP/1.1 101 S\r\nUpgrade: websocket\r\nconnection: upgrade\r\n\r\nbytes\r\n\r\n',
    UPGRADE,
  ],
  [
    'a 101 with another Connection',
    'HTTP/1.1 101 S\r\nconnection: keep-alive\r\nUpgrade: x\r\n\r\n',
    'HTTP/1.1 101 S\r\nconnection: keep-alive\r\nUpgrade: x\r\nconnection: upgrade\r\n\r\n',
    UPGRADE,
  ],
  [
    'an informational answer without frame and `close`',
    `HTTP/1.1 103 E\r\nConnection: close\r\nlink: a\r\ncontent-length: 1\r\n\r\nHTTP/1.1 102 P\r\nTransfer-Encoding: chunked\r\nproxy-connection: a, Close , b\r\nconnection: keep-alive\r\n\r\n${OK}connection: close\r\n\r\n`,
    `HTTP/1.1 103 E\r\nlink: a\r\n\r\nHTTP/1.1 102 P\r\nproxy-connection: a, b\r\nconnection: keep-alive\r\n\r\n${OK}connection: close\r\n\r\n`,
  ],
  [
    'a 101 without frame',
    'HTTP/1.1 101 S\r\nupgrade: x\r\ncontent-length: 0\r\ntransfer-encoding: chunked\r\nconnection: upgrade, close\r\n\r\nb',
    'HTTP/1.1 101 S\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nb',
    UPGRADE,
  ],
  [
    'trailers that the parser takes for header fields',
    `${CHUNKED}2\r\nhi\r\n0;x=y\r\nA: b\r\nConnection: close\r\ncontent-length:1\r\nTE: x\r\nproxy-connection: ${'c'.repeat(300)}\r\nUPGRADE: x\r\ntransfer-encoding: gzip\r\nc: d\r\n\r\nconnection: x\r\n`,
    `${CHUNKED}2\r\nhi\r\n0;x=y\r\nA: b\r\nTE: x\r\nc: d\r\n\r\nconnection: x\r\n`,
  ],
  [
    'the same behind chunks that look like trailers',
    `${OK}x: y\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0016;a\r\n0\r\nconnection: close\r\n\r\nA\r\n0123456789\r\n00\r\nconnection: close\r\n\r\n`,
    `${OK}x: y\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0016;a\r\n0\r\nconnection: close\r\n\r\nA\r\n0123456789\r\n00\r\n\r\n`,
  ],
]

/** Goes on byte for byte: most is right, the rest is for the parser to judge. */
const KEPT: readonly [string, string, string?][] = [
  ['a plain answer', `${OK}content-type: a\r\ncontent-length: 2\r\n\r\nhi`],
  ['two lengths', `${OK}content-length: 1\r\ncontent-length: 2\r\n\r\nhi`],
  ['two lengths in a field', `${OK}content-length: 1, 2\r\n\r\nhi`],
  ['a length that is none', `${OK}content-length: 1, x\r\ncontent-length: \r\n\r\nhi`],
  ['lengths of the same value in other digits', `${OK}content-length: 05, 5\r\n\r\nhello`],
  ['a length that is folded', `${OK}content-length: 5,\r\n 5\r\n\r\nhello`],
  ['fields that begin alike', `${OK}content-lengths: 1\r\nc: d\r\ncontent: 2\r\n\r\n`],
  ['a body like a head', `${OK}content-length: 50\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n`],
  [
    'trailers like lengths',
    `${OK}te: x\r\n\r\n0\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n`,
  ],
  ['other trailers', `${CHUNKED}0\r\nconn: close\r\nconnections: 1\r\nupgrade-x: 1\r\n\r\n`],
  ['no trailers', `${CHUNKED}1\r\na\r\n0\r\n\r\n`],
  ['a size that is none', `${CHUNKED}x\r\na\r\n0\r\nconnection: close\r\n\r\n`],
  ['no size', `${CHUNKED}\r\n0\r\nconnection: close\r\n\r\n`],
  ['a size beyond counting', `${CHUNKED}${'f'.repeat(20)}\r\n0\r\nconnection: close\r\n\r\n`],
  ['a size line that ends with LF', `${CHUNKED}0;\nconnection: close\r\n\r\n`],
  ['a chunk that is too long', `${CHUNKED}1\r\nab0\r\nconnection: close\r\n\r\n`],
  [
    'a coding that is not the last one',
    `${OK}transfer-encoding: chunked, gzip\r\n\r\n0\r\nconnection: close\r\n\r\n`,
  ],
  [
    'a 304, which has no body',
    'HTTP/1.1 304 N\r\ntransfer-encoding: chunked\r\n\r\n0\r\nconnection: close\r\n\r\n',
  ],
  [
    'what answers HEAD',
    `${CHUNKED}0\r\nconnection: close\r\n\r\n`,
    'HEAD / HTTP/1.1\r\nhost: x\r\n',
  ],
  ['garbage', 'SSH-2.0-x\r\nHTTP/1.1 100 Continue\r\n\r\n'],
  ['a status that is none', 'HTTP/1.1 1000 x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n'],
  ['lines that end with LF', 'HTTP/1.1 200 OK\ncontent-length: 1\n\nx'],
  ['empty lines before', `\r\n\r\n${OK}content-length: 1\r\n\r\nx`],
  ['a long line', `${OK}x: ${'y'.repeat(2_000)}\r\n\r\n`],
  [
    'a 101 as it should be',
    'HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: a, Upgrade\r\n\r\nb',
    UPGRADE,
  ],
  ['what follows CONNECT', 'HTTP/1.1 100 Continue\r\n\r\n', 'CONNECT x:1 HTTP/1.1\r\n'],
]

describe('whole, byte by byte, and cut anywhere', () => {
  const all = [
    ...CHANGED.map(([name, given, expected, request = GET]) => ({
      name,
      given,
      expected,
      request,
    })),
    ...KEPT.map(([name, given, request = GET]) => ({ name, given, expected: given, request })),
  ]
  test.each(all)('$name', ({ given, expected, request }) => {
    expect(read([given], request)).toBe(expected)
    expect(read(given.split(''), request)).toBe(expected)
    fc.assert(
      fc.property(fc.array(fc.nat(3_000), { maxLength: 4 }), (cuts) => {
        expect(read(cutAt(given, cuts), request)).toBe(expected)
      }),
      { numRuns: 50 },
    )
  })
})

test('bytes that need no change are not copied', () => {
  const heads = new ResponseHeadFilter()
  heads.startRequest(GET)
  const chunk = Buffer.from(`${OK}content-length: 2\r\n\r\nhi`)
  expect(heads.filter(chunk)).toBe(chunk)
  expect(heads.isExpecting).toBe(false)
})

test('what cannot be a head goes on before its line has ended', () => {
  for (const start of ['S', 'HTTP/2', '\x16\x03', 'HTTP/1.1 200 OK\r\nx']) {
    expect(read([start])).toBe(start)
  }
})

test('a status line goes on whole, so that its reason phrase is not cut', () => {
  const heads = new ResponseHeadFilter()
  heads.startRequest(GET)
  const line = `HTTP/1.1 200 ${'é'.repeat(1_000)}`
  expect(heads.filter(Buffer.from(line))).toHaveLength(0)
  expect(String(heads.filter(Buffer.from('\r\nx: y\r\n')))).toBe(`${line}\r\nx: y\r\n`)
})

test('a new request begins a new count', () => {
  const heads = new ResponseHeadFilter()
  for (let request = 0; request < 3; request++) {
    heads.startRequest(GET)
    for (let i = 0; i < MAX_INFORMATIONAL_RESPONSES; i++)
      heads.filter(Buffer.from('HTTP/1.1 102 P\r\n\r\n'))
    heads.filter(Buffer.from(`${OK}\r\n`))
  }
  expect(heads.isExpecting).toBe(false)
})

test('a new request begins a new count of what is left out', () => {
  const heads = new ResponseHeadFilter()
  for (let request = 0; request < 3; request++) {
    heads.startRequest(GET)
    heads.filter(Buffer.from(`HTTP/1.1 100 C\r\nx: ${'y'.repeat(40_000)}\r\n\r\n`))
    heads.filter(Buffer.from(`${OK}\r\n`))
  }
  expect(heads.isExpecting).toBe(false)
})

test.each([
  [
    'a 101 that nobody asked for',
    'HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n',
    GET,
  ],
  ['a 101 without Upgrade', 'HTTP/1.1 101 S\r\nconnection: upgrade\r\n\r\n', UPGRADE],
  ['informational answers without end', 'HTTP/1.1 102 P\r\n\r\n'.repeat(101), GET],
  ['100s without end', 'HTTP/1.1 100 C\r\n\r\n'.repeat(101), GET],
  [
    'fields without meaning, without end',
    `HTTP/1.1 103 C\r\n${'content-length: 1\r\n'.repeat(4_000)}`,
    GET,
  ],
  ['a 100 without end', `HTTP/1.1 100 C\r\n${'x: y\r\n'.repeat(11_000)}`, GET],
  [
    'trailers without meaning, without end',
    `${CHUNKED}0\r\n${'connection: close\r\n'.repeat(4_000)}`,
    GET,
  ],
  ['such a trailer without end', `${CHUNKED}0\r\nconnection: ${'y'.repeat(70_000)}`, GET],
  ['a line of a 100 without end', `HTTP/1.1 100 C\r\nx: ${'y'.repeat(70_000)}`, GET],
])('%s: refused', (_, text, request) => {
  expect(() => read([text], request)).toThrow(/101|more than/)
  expect(() => read(text.split(''), request)).toThrow(/101|more than/)
})

test('any bytes: no throw without a reason, nothing added, nothing lost but what is left out', () => {
  const piece = fc.constantFrom(
    'HTTP/1.1 ',
    '200 OK',
    '100 C',
    '102',
    '101 S',
    '\r\n',
    '\r\n\r\n',
    '\n',
    '\r',
    'content-length: 1',
    'Content-Length: 1, 1',
    'upgrade: x',
    'transfer-encoding: chunked',
    'connection: x',
    '2',
    '0',
    ' ',
    'x',
    '\x00',
    '\xff',
  )
  fc.assert(
    fc.property(
      fc.array(piece, { maxLength: 30 }),
      fc.array(fc.nat(300), { maxLength: 5 }),
      (pieces, cuts) => {
        const text = pieces.join('')
        const attempt = (parts: string[]): string => {
          try {
            return read(parts, GET)
          } catch (error) {
            return (error as Error).message
          }
        }
        const whole = attempt([text])
        const cut = attempt(cutAt(text, cuts))
        // What is held at the end may differ: it is the begin of a line.
        expect(whole.startsWith(cut) || cut.startsWith(whole)).toBe(true)
      },
    ),
    { numRuns: 3_000 },
  )
})

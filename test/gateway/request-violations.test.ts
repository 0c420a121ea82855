import { afterEach, describe, expect, test } from 'vitest'
import { runEventLoop } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'
import fc from '../properties.ts'
import {
  cleanUp,
  connectRaw,
  createLatch,
  openGatewayFixture,
  sendRaw,
  splitResponse,
} from './gateway-fixture.ts'

expectNothingLeft()

afterEach(cleanUp)

const OK = 'Host: calc\r\n'
const CHUNKED = `${OK}Transfer-Encoding: chunked\r\n`

/** Each is answered with 400 and the end of the connection, and nothing of it reaches an instance. */
const BAD: Readonly<Record<string, string>> = {
  'Host twice, the same': `GET / HTTP/1.1\r\n${OK}${OK}\r\n`,
  'Host twice, different': `GET / HTTP/1.1\r\n${OK}host: other\r\n\r\n`,
  'no Host': 'GET / HTTP/1.1\r\n\r\n',
  'an empty Host': 'GET / HTTP/1.1\r\nHost:\r\n\r\n',
  'a comma-joined Host': 'GET / HTTP/1.1\r\nHost: calc, calc\r\n\r\n',
  'a Host with user': 'GET / HTTP/1.1\r\nHost: me@calc\r\n\r\n',
  'a Host with a path': 'GET / HTTP/1.1\r\nHost: calc/x\r\n\r\n',
  'a Host with a space': 'GET / HTTP/1.1\r\nHost: ca lc\r\n\r\n',
  'a Host that is a URL': 'GET / HTTP/1.1\r\nHost: http://calc\r\n\r\n',
  'a Host with a bad port': 'GET / HTTP/1.1\r\nHost: calc:x\r\n\r\n',
  'a Host with a query': 'GET / HTTP/1.1\r\nHost: calc?x\r\n\r\n',
  'a Host of bytes': 'GET / HTTP/1.1\r\nHost: c\xe4lc\r\n\r\n',
  'GET *': `GET * HTTP/1.1\r\n${OK}\r\n`,
  'a target without a slash': `GET calc HTTP/1.1\r\n${OK}\r\n`,
  'a target of another scheme': `GET ftp://calc/ HTTP/1.1\r\n${OK}\r\n`,
  'a target with user': `GET http://me@calc/ HTTP/1.1\r\n${OK}\r\n`,
  'a target without host': `GET http:///x HTTP/1.1\r\n${OK}\r\n`,
  'a target with a fragment': `GET /x#y HTTP/1.1\r\n${OK}\r\n`,
  'an overlong slash': `GET /\xc0\xaf HTTP/1.1\r\n${OK}\r\n`,
  'a target of bytes': `GET /\xe4 HTTP/1.1\r\n${OK}\r\n`,
  'a target with DEL': `GET /\x7f HTTP/1.1\r\n${OK}\r\n`,
  'a target with a tab': `GET /a\tb HTTP/1.1\r\n${OK}\r\n`,
  'HTTP/0.9': 'GET /\r\n\r\n',
  'HTTP/1.2': `GET / HTTP/1.2\r\n${OK}\r\n`,
  'HTTP/2.0 in the first line': `GET / HTTP/2.0\r\n${OK}\r\n`,
  'HTTP/9.9': `GET / HTTP/9.9\r\n${OK}\r\n`,
  'http/1.1': `GET / http/1.1\r\n${OK}\r\n`,
  'an empty Transfer-Encoding': `POST / HTTP/1.1\r\n${OK}Transfer-Encoding:\r\n\r\n`,
  identity: `POST / HTTP/1.1\r\n${OK}Transfer-Encoding: identity\r\n\r\n`,
  xchunked: `POST / HTTP/1.1\r\n${OK}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`,
  'gzip, chunked': `POST / HTTP/1.1\r\n${OK}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`,
  'chunked, identity': `POST / HTTP/1.1\r\n${OK}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n`,
  'chunked twice': `POST / HTTP/1.1\r\n${CHUNKED}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
  'chunked in HTTP/1.0': `POST / HTTP/1.0\r\n${CHUNKED}\r\n0\r\n\r\n`,
  'both lengths': `POST / HTTP/1.1\r\n${CHUNKED}Content-Length: 5\r\n\r\n0\r\n\r\n`,
  'both lengths, the other way': `POST / HTTP/1.1\r\n${OK}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
  'two lengths': `POST / HTTP/1.1\r\n${OK}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab`,
  'one length twice': `POST / HTTP/1.1\r\n${OK}Content-Length: 1\r\nContent-Length: 1\r\n\r\na`,
  'a list of lengths': `POST / HTTP/1.1\r\n${OK}Content-Length: 1, 1\r\n\r\na`,
  'a length with a sign': `POST / HTTP/1.1\r\n${OK}Content-Length: +1\r\n\r\na`,
  'a negative length': `POST / HTTP/1.1\r\n${OK}Content-Length: -1\r\n\r\na`,
  'a hexadecimal length': `POST / HTTP/1.1\r\n${OK}Content-Length: 0x1\r\n\r\na`,
  'a huge length': `POST / HTTP/1.1\r\n${OK}Content-Length: 99999999999999999999\r\n\r\na`,
  'obs-fold': `GET / HTTP/1.1\r\n${OK}X: a\r\n b\r\n\r\n`,
  'obs-fold with a tab': `GET / HTTP/1.1\r\n${OK}X:\r\n\tb\r\n\r\n`,
  'a space before the first header': `GET / HTTP/1.1\r\n Host: calc\r\n\r\n`,
  'a space before the colon': `GET / HTTP/1.1\r\n${OK}X : a\r\n\r\n`,
  'an empty header name': `GET / HTTP/1.1\r\n${OK}: a\r\n\r\n`,
  'a header without a colon': `GET / HTTP/1.1\r\n${OK}X\r\n\r\n`,
  'bare LF': `GET / HTTP/1.1\nHost: calc\n\n`,
  'bare LF after a header': `GET / HTTP/1.1\r\nHost: calc\nX: a\r\n\r\n`,
  'bare CR in a value': `GET / HTTP/1.1\r\n${OK}X: a\rb\r\n\r\n`,
  'NUL in a value': `GET / HTTP/1.1\r\n${OK}X: a\0b\r\n\r\n`,
  'a control character in a value': `GET / HTTP/1.1\r\n${OK}X: a\x01b\r\n\r\n`,
  'a bare semicolon after a chunk size': `POST / HTTP/1.1\r\n${CHUNKED}\r\n1;\r\na\r\n0\r\n\r\n`,
  'a very long chunk extension': `POST / HTTP/1.1\r\n${CHUNKED}\r\n1;${'x'.repeat(20_000)}\r\na\r\n0\r\n\r\n`,
  'a chunk size of no number': `POST / HTTP/1.1\r\n${CHUNKED}\r\nx\r\na\r\n0\r\n\r\n`,
  'a space after a chunk size': `POST / HTTP/1.1\r\n${CHUNKED}\r\n1 \r\na\r\n0\r\n\r\n`,
  'a huge chunk size': `POST / HTTP/1.1\r\n${CHUNKED}\r\nfffffffffffffffff\r\na\r\n0\r\n\r\n`,
  'bare LF after a chunk size': `POST / HTTP/1.1\r\n${CHUNKED}\r\n1\na\r\n0\r\n\r\n`,
  'a chunk longer than it says': `POST / HTTP/1.1\r\n${CHUNKED}\r\n1\r\nab\r\n0\r\n\r\n`,
  'an unknown method': `FROB / HTTP/1.1\r\n${OK}\r\n`,
  'a method in small letters': `get / HTTP/1.1\r\n${OK}\r\n`,
  TLS: '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
  'a preface that is none': 'PRI / HTTP/1.1\r\n\r\n',
}

describe('refused with 400 and close, and never seen by an instance', () => {
  test.each(Object.entries(BAD))('%s', async (name, text) => {
    const { port, provider } = await openGatewayFixture(async (req, res) => {
      for await (const _ of req);
      res.end()
    })
    if (name === 'a preface that is none') {
      // To HTTP/2 it is a protocol error: the connection ends without a word of HTTP/1.1.
      expect(await sendRaw(port, text)).not.toContain('HTTP/1.1 2')
      return
    }
    const answer = await sendRaw(port, text)
    expect(answer).toMatch(/^HTTP\/1.1 400 /)
    expect(answer).toMatch(/connection: close\r\n/i)
    expect(answer.split('HTTP/1.1 ')).toHaveLength(2)
    const { head, body } = splitResponse(answer)
    expect(head).toContain('content-type: application/problem+json')
    expect(JSON.parse(body)).toMatchObject({ status: 400, code: 'MANYHOST_BAD_REQUEST' })
    // Chunked bodies are passed on as they come; what has no end was never answered.
    if (!text.includes('chunked\r\n\r\n')) expect(provider.instances[0]?.requests ?? 0).toBe(0)
  })

  test('more headers than node:http keeps: none is lost', async () => {
    const { port } = await openGatewayFixture()
    const many = 'a:\r\n'.repeat(2_100)
    expect(
      await sendRaw(port, `GET / HTTP/1.1\r\nHost: calc\r\n${many}host: other\r\n\r\n`),
    ).toMatch(/^HTTP\/1.1 400 .*more than one Host/s)
  })
})

describe('one client never gets what another one asked', () => {
  test('a second request in the body of the first is a body', async () => {
    const { port, provider } = await openGatewayFixture()
    const hidden = 'GET /hidden HTTP/1.1\r\nHost: calc\r\n\r\n'
    const wire = await connectRaw(port)
    wire.write(`POST /a HTTP/1.1\r\n${OK}Content-Length: ${hidden.length}\r\n\r\n${hidden}`)
    await wire.match('"url":"/a"')
    expect(wire.text).toContain(JSON.stringify(hidden).slice(1, -1))
    expect(provider.instances[0]?.requests).toBe(1)
  })

  test('a body that nobody reads is not the next request', async () => {
    const { port, provider } = await openGatewayFixture((_req, res) => res.end('early'))
    const hidden = 'GET /hidden HTTP/1.1\r\nHost: calc\r\n\r\n'
    const wire = await connectRaw(
      port,
      `GET /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: ${hidden.length}\r\n\r\n`,
    )
    wire.write(hidden)
    expect((await wire.end()).split('HTTP/1.1 ')).toHaveLength(2)
    expect(provider.instances[0]?.requests ?? 0).toBe(0)
  })

  test('pipelined requests are answered in order, bad ones after them', async () => {
    const first = createLatch()
    const { port } = await openGatewayFixture(async (req, res) => {
      if (req.url === '/1') await first.promise
      res.end(`<${req.url}>`)
      if (req.url === '/2') first.open()
    })
    const get = (path: string): string => `GET ${path} HTTP/1.1\r\n${OK}\r\n`
    const text = await sendRaw(port, `${get('/1')}${get('/2')}\0\0garbage\r\n\r\n`)
    expect(text.split('HTTP/1.1 ').map((one) => one.slice(0, 3))).toEqual(['', '200', '200', '400'])
    expect(text.indexOf('</1>')).toBeLessThan(text.indexOf('</2>'))
  })

  test('garbage in the middle of an answer is not answered inside of it', async () => {
    const more = createLatch()
    const { port } = await openGatewayFixture(async (_req, res) => {
      res.write('abc')
      await more.promise
      res.end('def')
    })
    const wire = await connectRaw(port, `GET / HTTP/1.1\r\n${OK}\r\n`)
    await wire.match('abc')
    await new Promise((resolve) => wire.socket.write('\0\0\r\n\r\n', resolve))
    await runEventLoop()
    more.open()
    expect(await wire.end()).toMatch(/abc\r\n3\r\ndef\r\n0\r\n\r\nHTTP\/1.1 400 /)
  })
})

/** Requests as they come, taken apart and put together wrongly. */
const PIECES = [
  'GET / HTTP/1.1\r\n',
  'POST /calc/x HTTP/1.1\r\n',
  'OPTIONS * HTTP/1.1\r\n',
  'GET http://calc/ HTTP/1.0\r\n',
  'Host: calc\r\n',
  'Host: a,b\r\n',
  'Content-Length: 3\r\n',
  'Content-Length: 0\r\n',
  'Transfer-Encoding: chunked\r\n',
  'Transfer-Encoding: x\r\n',
  'Connection: close\r\n',
  'Connection: upgrade\r\nUpgrade: websocket\r\n',
  'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n',
  'Expect: 100-continue\r\n',
  'Expect: x\r\n',
  'Connection: x, host\r\n',
  ' folded\r\n',
  ': \r\n',
  'X: \xff\r\n',
  'Trailer: x\r\n',
  'TE: trailers\r\n',
  '\r\n',
  '\r\n',
  '\n',
  '\r',
  '3\r\nabc\r\n',
  '0\r\n\r\n',
  '0\r\nX: y\r\n\r\n',
  'abc',
  '\0',
  'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  'P',
  'x'.repeat(17_000),
]

test('whatever comes: no crash, no hang, the next client is served', async () => {
  const { port } = await openGatewayFixture()
  const requests = fc.array(
    fc.oneof(
      { weight: 6, arbitrary: fc.constantFrom(...PIECES) },
      fc.string({ maxLength: 6, unit: 'binary-ascii' }),
    ),
    { minLength: 1, maxLength: 14 },
  )
  const failure: unknown[] = []
  const note = (error: unknown): void => void failure.push(error)
  process.on('uncaughtException', note)
  try {
    await fc.assert(
      fc.asyncProperty(requests, fc.boolean(), async (pieces, isSlow) => {
        const wire = await connectRaw(port)
        if (isSlow)
          for (const piece of pieces)
            await new Promise((go) => wire.socket.write(piece, 'latin1', go))
        else wire.write(pieces.join(''))
        wire.socket.end()
        await wire.end()
        // 1xx aside, every answer is a whole answer.
        expect(
          wire.text === '' || wire.text.startsWith('HTTP/1.1 ') || wire.text.charCodeAt(3) <= 9,
        ).toBe(true)
        expect(failure).toEqual([])
      }),
      { numRuns: 300 },
    )
    expect(
      await sendRaw(port, 'GET /calc/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'),
    ).toContain('"url":"/x"')
  } finally {
    process.off('uncaughtException', note)
  }
}, 120_000)

/** What instances answer that node:http or node:http2 would throw for, or that frames a body other than it is sent. */
import { connect, constants } from 'node:http2'
import { afterEach, describe, expect, test } from 'vitest'
import { createLatch, runEventLoop } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'
import { cleanUp, connectRaw, sendRaw, waitUntil } from './gateway-fixture.ts'
import {
  openRawGatewayFixture,
  parseResponses,
  type RawResponder,
  type RawResponse,
  sendHttp2Request,
  sendTwoRequests,
} from './raw-instance.ts'

expectNothingLeft()

afterEach(cleanUp)

const GET = 'GET /calc/ HTTP/1.1\r\nHost: x\r\n\r\n'
const HEAD = 'HEAD /calc/ HTTP/1.1\r\nHost: x\r\n\r\n'
const OLD = 'GET /calc/ HTTP/1.0\r\nHost: x\r\n\r\n'

/** Answers the first request so, and all others plainly. */
const once = (answer: string): RawResponder => {
  return (socket, _seen, count) =>
    socket.write(
      count === 1 ? answer : 'HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlast',
      'latin1',
    )
}

/** The first answer of two on one connection, of which the second one must be whole, and nobody may be asked again. */
async function first(answer: string, request = GET): Promise<RawResponse> {
  const { port, instance, cluster } = await openRawGatewayFixture(once(answer))
  const all = await sendTwoRequests(port, request, request.split(' ')[0])
  expect(all.at(-1)?.body).toBe('last')
  expect(all).toHaveLength(2)
  expect(instance.seen).toHaveLength(2)
  await waitUntil(() => cluster.inFlight === 0)
  await cleanUp()
  return all[0] as RawResponse
}

const header = ({ headers }: RawResponse, name: string): string | undefined =>
  headers.find(([one]) => one === name)?.[1]

describe('a reason phrase', () => {
  const NOT_FOUND = 'HTTP/1.1 404 Not Found'
  test.each([
    ['of ASCII', 'Nothing here', 'HTTP/1.1 404 Nothing here'],
    ['with a tab', 'Nothing\there', 'HTTP/1.1 404 Nothing\there'],
    ['of UTF-8, two bytes', '\xc3\xbcber', 'HTTP/1.1 404 \xc3\xbcber'],
    ['of UTF-8, three bytes', '\xe6\xbc\xa2', 'HTTP/1.1 404 \xe6\xbc\xa2'],
    ['of UTF-8, four bytes', '\xf0\x9f\x98\x80', 'HTTP/1.1 404 \xf0\x9f\x98\x80'],
    ['of Latin-1', '\xfc', NOT_FOUND],
    ['of UTF-8 that is cut', 'a\xc3', NOT_FOUND],
    ['of half a pair', '\xed\xa0\x80', NOT_FOUND],
    ['with a control byte', 'a\x01b', NOT_FOUND],
    ['of nothing', '', NOT_FOUND],
  ])('%s comes through, or the usual one in its place', async (_what, phrase, line) => {
    for (const frame of [
      'content-length: 2\r\n\r\nab',
      'transfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n',
    ]) {
      const answer = await first(`HTTP/1.1 404 ${phrase}\r\n${frame}`)
      expect(answer.line).toBe(line)
      expect(answer.body).toBe('ab')
    }
  })

  test('does not matter over HTTP/2', async () => {
    const { url } = await openRawGatewayFixture('HTTP/1.1 404 \xfc\r\ncontent-length: 2\r\n\r\nab')
    expect(await sendHttp2Request(url)).toMatchObject({
      headers: { ':status': 404 },
      body: 'ab',
      code: 0,
    })
  })
})

describe('a value beyond ASCII', () => {
  test.each([
    ['whole', 'content-length: 1\r\n\r\na'],
    ['in pieces', 'transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n'],
    ['without content', 'content-length: 0\r\n\r\n'],
  ])('keeps its bytes: an answer %s', async (_what, frame) => {
    for (const value of ['\xe9', '\xc3\xa9', 'attachment; filename="\xe6\xbc\xa2"']) {
      for (const name of ['x-a', 'content-disposition']) {
        const answer = await first(`HTTP/1.1 200 OK\r\n${name}: ${value}\r\n${frame}`)
        expect(header(answer, name), name).toBe(value)
        const turned = frame.replace('\r\n', `\r\n${name}: ${value}\r\n`)
        expect(header(await first(`HTTP/1.1 200 OK\r\n${turned}`), name), name).toBe(value)
      }
    }
  })

  test('keeps them before its body comes', async () => {
    const go = createLatch()
    const { port } = await openRawGatewayFixture(async (socket) => {
      socket.write('HTTP/1.1 200 OK\r\nx-a: \xe9\r\nconnection: close\r\n\r\n', 'latin1')
      await go.promise
      socket.end('late')
    })
    const text = sendRaw(port, OLD)
    await new Promise((resolve) => setImmediate(resolve))
    go.open()
    expect(await text).toMatch(/x-a: \xe9\r\n.*late$/s)
  })
})

describe('what frames a body', () => {
  const TRAILER = 'trailer: x-sum\r\n'
  const CHUNKS = 'transfer-encoding: chunked\r\n'
  const BODY = '2\r\nab\r\n0\r\nx-sum: 1\r\n\r\n'

  test.each([
    ['204 with a trailer', GET, `204 No Content\r\n${TRAILER}\r\n`, undefined, ''],
    ['204 with a length', GET, '204 No Content\r\ncontent-length: 0\r\n\r\n', undefined, ''],
    ['204 for HEAD', HEAD, `204 No Content\r\n${TRAILER}content-length: 0\r\n\r\n`, undefined, ''],
    ['205 with content', GET, '205 Reset Content\r\ncontent-length: 2\r\n\r\nab', '0', ''],
    ['205 with chunks', GET, `205 Reset Content\r\n${TRAILER}${CHUNKS}\r\n${BODY}`, '0', ''],
    ['205 without any', GET, '205 Reset Content\r\ncontent-length: 0\r\n\r\n', '0', ''],
    ['304 with a trailer', GET, `304 Not Modified\r\n${TRAILER}\r\n`, undefined, ''],
    ['HEAD with a trailer', HEAD, `200 OK\r\n${TRAILER}${CHUNKS}\r\n`, undefined, ''],
    ['HEAD with a length', HEAD, `200 OK\r\n${TRAILER}content-length: 9\r\n\r\n`, '9', ''],
    ['a trailer with a length', GET, `200 OK\r\n${TRAILER}content-length: 2\r\n\r\nab`, '2', 'ab'],
  ])('%s: no trailer is announced, and the next answer is the next', async (...all) => {
    const [, request, answer, length, body] = all
    const got = await first(`HTTP/1.1 ${answer}`, request)
    expect(got.status).toBe(Number(answer.slice(0, 3)))
    expect(header(got, 'content-length')).toBe(length)
    expect(header(got, 'transfer-encoding')).toBeUndefined()
    expect(header(got, 'trailer')).toBeUndefined()
    expect(got.body).toBe(body)
  })

  test.each([0, 20])(
    'to HTTP/1.0 a reset says that an answer is cut off: %i ms behind its head',
    async (ms) => {
      const { port } = await openRawGatewayFixture(async (socket) => {
        socket.write(`HTTP/1.1 200 OK\r\n${CHUNKS}\r\n`)
        if (ms > 0) await new Promise((resolve) => setTimeout(resolve, ms))
        socket.end('this is no chunk\r\n')
      })
      const wire = await connectRaw(port, OLD)
      await waitUntil(() => wire.isOver)
      await waitUntil(() => wire.error !== undefined)
      expect(wire.error).toMatchObject({ code: 'ECONNRESET' })
    },
  )

  test('an instance that breaks off behind an answer without content ends nothing', async () => {
    const { port, instance } = await openRawGatewayFixture((socket, _seen, count) => {
      if (count > 1) return void socket.write('HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlast')
      socket.end(`HTTP/1.1 205 Reset Content\r\n${CHUNKS}\r\n2\r\na`)
    })
    const all = await sendTwoRequests(port, GET)
    expect(all.map(({ status, body }) => `${status} ${body}`)).toEqual(['205 ', '200 last'])
    expect(instance.seen).toHaveLength(2)
  })

  test('trailers follow chunks', async () => {
    const got = await first(`HTTP/1.1 200 OK\r\n${TRAILER}${CHUNKS}\r\n${BODY}`)
    expect(header(got, 'trailer')).toBe('x-sum')
    expect(got.trailers).toEqual([['x-sum', '1']])
  })

  test.each(['', 'TE: chunked, trailers\r\n'])(
    'a client of HTTP/1.0 gets neither chunks nor trailers: %j',
    async (te) => {
      const { port, instance } = await openRawGatewayFixture(
        `HTTP/1.1 200 OK\r\n${TRAILER}${CHUNKS}\r\n${BODY}`,
      )
      const text = await sendRaw(port, OLD.replace('\r\n\r\n', `\r\n${te}\r\n`))
      const [answer] = parseResponses(text, ['GET'])
      expect(answer).toMatchObject({ status: 200, body: 'ab' })
      expect(text).not.toMatch(/chunked|trailer|x-sum/i)
      expect(instance.seen).toHaveLength(1)
    },
  )

  test.each([
    '204 No Content\r\ncontent-length: 0',
    `205 Reset\r\n${CHUNKS}\r\n${BODY.trim()}\r\n`,
    `304 Not Modified\r\n${TRAILER}`,
  ])('over HTTP/2: %j', async (answer) => {
    const { url } = await openRawGatewayFixture(`HTTP/1.1 ${answer.trim()}\r\n\r\n`)
    const got = await sendHttp2Request(url)
    expect(got).toMatchObject({
      headers: { ':status': Number(answer.slice(0, 3)) },
      body: '',
      code: 0,
    })
    if (answer.startsWith('204')) expect(got.headers['content-length']).toBeUndefined()
  })

  test('trailers that HTTP forbids are left out, and end nothing', async () => {
    const names = [
      'Connection',
      'Keep-Alive',
      'TE',
      'Upgrade',
      'HTTP2-Settings',
      'Proxy-Connection',
      'Host',
      'Set-Cookie',
      'Authorization',
      'Content-Type',
      'Content-Encoding',
      'X-Manyhost-Return',
      'Trailer',
      'Cache-Control',
    ]
    for (const name of names) {
      const answer = `HTTP/1.1 200 OK\r\n${CHUNKS}\r\n1\r\na\r\n0\r\n${name}: close\r\nx-sum: 1\r\n${name}: b\r\n\r\n`
      const { url, cluster } = await openRawGatewayFixture(answer)
      const two = await sendHttp2Request(url)
      expect(two, name).toMatchObject({ headers: { ':status': 200 }, body: 'a', code: 0 })
      expect(Object.entries(two.trailers ?? {}), name).toEqual([['x-sum', '1']])
      await waitUntil(() => cluster.inFlight === 0)
      await cleanUp()
      expect((await first(answer)).trailers, name).toEqual([['x-sum', '1']])
    }
  })

  test('trailers of any other name come through, repeated ones too', async () => {
    const names = ['constructor', '__proto__', 'ETag', 'From', 'Range', 'hasOwnProperty']
    const lines = names.map((name) => `${name}: 1\r\n${name}: 2\r\n`).join('')
    const answer = `HTTP/1.1 200 OK\r\n${CHUNKS}\r\n1\r\na\r\n0\r\n${lines}\r\n`
    expect((await first(answer)).trailers).toHaveLength(12)
    const { url } = await openRawGatewayFixture(answer)
    const { trailers = {}, code } = await sendHttp2Request(url)
    expect(code).toBe(0)
    expect(Object.keys(trailers)).toEqual(names.map((name) => name.toLowerCase()))
    expect(Reflect.get(trailers, '__proto__')).toBe('1, 2')
    expect(trailers.constructor).toBe('1, 2')
  })
})

describe('over HTTP/2', () => {
  test('an answer may repeat any header that node knows, and then some', async () => {
    const known = Object.entries(constants)
      .filter(([key, name]) => key.startsWith('HTTP2_HEADER_') && !String(name).startsWith(':'))
      .map(([, name]) => String(name))
      // Those frame the answer, or end here.
      .filter(
        (name) => !['content-length', 'transfer-encoding', 'connection', 'trailer'].includes(name),
      )
    const names = [...known, 'constructor', '__proto__', 'toString', 'hasOwnProperty', 'x-any']
    let name = ''
    const { url, cluster } = await openRawGatewayFixture((socket) =>
      socket.write(`HTTP/1.1 200 OK\r\n${name}: 1\r\n${name}: 2\r\ncontent-length: 2\r\n\r\nab`),
    )
    for (name of names) {
      const got = await sendHttp2Request(url)
      expect(got, name).toMatchObject({ headers: { ':status': 200 }, body: 'ab', code: 0 })
    }
    await waitUntil(() => cluster.inFlight === 0)
  })

  test('headers with the names of what objects have keep their values', async () => {
    const lines = 'constructor: abc\r\n__proto__: def\r\nvalueOf: ghi\r\n'
    const { url, port, instance } = await openRawGatewayFixture(
      `HTTP/1.1 200 OK\r\n${lines}content-length: 0\r\n\r\n`,
    )
    const { headers } = await sendHttp2Request(url, {
      constructor: 'mine',
      ['__proto__' as string]: 'x',
    })
    expect(headers.constructor).toBe('abc')
    expect(Reflect.get(headers, '__proto__')).toBe('def')
    expect(headers.valueof).toBe('ghi')
    expect(instance.seen[0]?.head).toContain('constructor: mine')
    const text = await sendRaw(
      port,
      `${GET.trimEnd()}\r\nConstructor: me\r\n__proto__: you\r\nConnection: close\r\n\r\n`,
    )
    expect(text).toContain('constructor: abc\r\n')
    expect(text).toContain('__proto__: def\r\n')
    expect(instance.seen[1]?.head).toMatch(/Constructor: me\r\n__proto__: you\r\n/)
  })

  test('a repeated list is joined, where node takes one line only', async () => {
    const { url } = await openRawGatewayFixture(
      'HTTP/1.1 200 OK\r\ncontent-language: de\r\ncontent-language: en\r\ncontent-length: 0\r\n\r\n',
    )
    expect((await sendHttp2Request(url)).headers['content-language']).toBe('de, en')
  })

  test.each([600, 999])('a status that it has not is a problem: %i', async (status) => {
    for (const method of ['GET', 'HEAD', 'POST']) {
      const { url, instance, cluster } = await openRawGatewayFixture(
        `HTTP/1.1 ${status} X\r\ncontent-length: 0\r\n\r\n`,
      )
      const got = await sendHttp2Request(url, { ':method': method })
      expect(got.headers[':status']).toBe(502)
      if (method !== 'HEAD') expect(got.body).toContain(`no status ${status}`)
      expect(instance.seen).toHaveLength(1)
      await waitUntil(() => cluster.inFlight === 0)
      await cleanUp()
    }
    expect((await first(`HTTP/1.1 ${status} X\r\ncontent-length: 0\r\n\r\n`)).line).toBe(
      `HTTP/1.1 ${status} X`,
    )
  })

  test('blanks at the end of a value do not end the stream', async () => {
    const { url } = await openRawGatewayFixture(
      'HTTP/1.1 200 OK\r\nx-a: b \t\r\ncontent-length: 1\r\n\r\na',
    )
    expect(await sendHttp2Request(url)).toMatchObject({
      headers: { 'x-a': 'b' },
      body: 'a',
      code: 0,
    })
  })

  test.each(['GET', 'HEAD', 'POST'])(
    'a client that goes before its answer frees the slot: %s',
    async (method) => {
      const { url, cluster, instance } = await openRawGatewayFixture(() => undefined)
      for (const how of ['close', 'destroy'] as const) {
        const count = instance.seen.length + 1
        const session = connect(url)
        session.on('error', () => undefined)
        const stream = session.request({ ':path': '/calc/', ':authority': 'x', ':method': method })
        stream.on('error', () => undefined)
        if (method === 'POST') stream.end('x')
        await waitUntil(() => instance.seen.length === count)
        if (how === 'destroy') stream.destroy()
        else stream.close(constants.NGHTTP2_CANCEL)
        await waitUntil(() => cluster.inFlight === 0)
        session.destroy()
      }
    },
  )

  test('a refused extended CONNECT is answered, whatever its answer repeats', async () => {
    for (const name of ['Host', 'Authorization', 'Date', 'constructor']) {
      const { url, cluster } = await openRawGatewayFixture(
        `HTTP/1.1 403 No\r\n${name}: 1\r\n${name}: 2\r\ncontent-length: 2\r\n\r\nno`,
      )
      const got = await sendHttp2Request(url, {
        ':method': 'CONNECT',
        ':protocol': 'websocket',
        ':scheme': 'http',
      })
      expect(got, name).toMatchObject({ headers: { ':status': 403 }, body: 'no' })
      await waitUntil(() => cluster.inFlight === 0)
      await cleanUp()
    }
  })
})

describe('informational answers', () => {
  const HINT =
    'HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\nx-b: c\r\ncontent-length: 7\r\n\r\n'
  const OK = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok'

  test('come through with their headers, without a length', async () => {
    const { port } = await openRawGatewayFixture(
      once(`${HINT}HTTP/1.1 102 Processing\r\n\r\n${OK}`),
    )
    const all = await sendTwoRequests(port, GET)
    expect(all.map(({ status }) => status)).toEqual([103, 102, 200, 200])
    expect(all[0]?.headers).toEqual([
      ['link', '</a>; rel=preload'],
      ['x-b', 'c'],
    ])
    await cleanUp()
    const two = await openRawGatewayFixture(`${HINT}${OK}`)
    const { infos, body } = await sendHttp2Request(two.url)
    expect(infos.map((info) => Object.entries(info))).toEqual([
      [
        [':status', 103],
        ['link', '</a>; rel=preload'],
        ['x-b', 'c'],
      ],
    ])
    expect(body).toBe('ok')
  })

  test('do not go to clients of HTTP/1.0', async () => {
    const { port } = await openRawGatewayFixture(`${HINT}${OK}`)
    expect(parseResponses(await sendRaw(port, OLD), ['GET']).map(({ status }) => status)).toEqual([
      200,
    ])
  })

  test('are passed on up to a number, and no more', async () => {
    for (const count of [100, 150]) {
      const { port } = await openRawGatewayFixture(
        once(`${'HTTP/1.1 102 Processing\r\n\r\n'.repeat(count)}${OK}`),
      )
      const statuses = (await sendTwoRequests(port, GET)).map(({ status }) => status)
      expect(statuses.filter((status) => status < 200).length).toBeLessThanOrEqual(100)
      expect(statuses.at(-1)).toBe(200)
      if (count === 100) expect(statuses).toEqual([...Array(100).fill(102), 200, 200])
      await cleanUp()
    }
  })

  const BIG = 'x'.repeat(20_000)
  test.each([
    ['short', 'content-length: 2\r\n\r\nok', 'ok'],
    ['long', `content-length: 20000\r\n\r\n${BIG}`, BIG],
    ['of chunks', 'transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n', 'ok'],
    ['refused', 'x y: z\r\n\r\n', undefined],
  ])(
    'keep their place when they wait behind others: an answer that is %s',
    async (_what, rest, body) => {
      const go = createLatch()
      const { port, instance } = await openRawGatewayFixture(
        async (socket, { head }) => {
          if (!head.startsWith('POST')) await go.promise
          socket.write(head.startsWith('POST') ? `${HINT}HTTP/1.1 200 OK\r\n${rest}` : OK)
        },
        { service: { maxAttempts: 1 } },
      )
      const post =
        'POST /calc/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx'
      const wire = await connectRaw(port, GET + post)
      await waitUntil(() => instance.seen.length === 2)
      await runEventLoop()
      go.open()
      const all = parseResponses(await wire.end(), ['GET', 'POST'])
      const status = body === undefined ? 502 : 200
      expect(all.map((answer) => answer.status)).toEqual([200, 100, 103, status])
      if (body !== undefined) expect(all[3]?.body).toBe(body)
    },
  )
})

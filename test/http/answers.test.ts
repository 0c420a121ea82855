/**
 * docs/gateway.md, "Answers that are not as they should be": each row of its table, through client, dispatcher and gateway.
 * What is understood is answered; what is refused for its form is asked for once; what ended is sent again.
 */
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { Pool } from 'undici'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { Provider, Running } from '../../src/core/provider.ts'
import { ENTRIES, requestThrough } from '../fakes/entry-points.ts'
import { openRawServer, openRawService, openService, openSession } from '../fakes/service.ts'
import { waitUntil } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'

expectNothingLeft()

const OK = 'HTTP/1.1 200 OK\r\n'
const HI = 'content-length: 2\r\n\r\nhi'

const METHODS = ['GET', 'POST'] as const

/** Every method through every front, each in a world of its own. */
const EACH = METHODS.flatMap((method) => ENTRIES.map((front) => [method, front] as const))

/** Counts the requests that reached the server, not the connections: a probe makes those, too. */
function counting(serve: (socket: Socket) => void) {
  let asked = 0
  return {
    asked: () => asked,
    serve: (socket: Socket) => {
      asked++
      serve(socket)
    },
  }
}

const FRAME = 'transfer-encoding: chunked'
const CHUNKED = `${OK}${FRAME}\r\n\r\n`

/** Trailers that undici's parser takes for header fields, and others like them. */
const TRAILERS = [
  'connection: close',
  'Connection: close, x',
  'connection: upgrade',
  `connection: close, ${'x'.repeat(400)}`,
  'proxy-connection: close',
  'keep-alive: timeout=0',
  'content-length: 1',
  'content-length: 2',
  'content-length: 3',
  'content-length: abc',
  'transfer-encoding: gzip',
  'Transfer-Encoding: chunked',
  'upgrade: websocket\r\nconnection: upgrade',
  'trailer: x',
]

const UNDERSTOOD: readonly [string, string, number, string][] = [
  [
    '304 with the length of what it stands for',
    'HTTP/1.1 304 N\r\ncontent-length: 9\r\n\r\n',
    304,
    '',
  ],
  ['204 with a length', 'HTTP/1.1 204 N\r\ncontent-length: 9\r\n\r\n', 204, ''],
  ['204 with a length and content', 'HTTP/1.1 204 N\r\ncontent-length: 2\r\n\r\nhi', 204, ''],
  [
    '204 with an empty chunked body',
    'HTTP/1.1 204 N\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n',
    204,
    '',
  ],
  ['an unasked 100', `HTTP/1.1 100 Continue\r\n\r\n${OK}${HI}`, 200, 'hi'],
  [
    'several unasked 100s with fields',
    `${'HTTP/1.1 100 C\r\nx: y\r\n\r\n'.repeat(3)}${OK}${HI}`,
    200,
    'hi',
  ],
  [
    '102, 100 and 103',
    `HTTP/1.1 102 P\r\n\r\nHTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nlink: </a>\r\n\r\n${OK}${HI}`,
    200,
    'hi',
  ],
  ...['connection: close', 'proxy-connection: close', `content-length: 3\r\n${FRAME}`].map(
    (field): [string, string, number, string] => [
      `103 with ${field}`,
      `HTTP/1.1 103 E\r\n${field}\r\nlink: </a>\r\n\r\n${OK}${HI}`,
      200,
      'hi',
    ],
  ),
  ['one length in two fields', `${OK}Content-Length: 2\r\n${HI}`, 200, 'hi'],
  ['one length twice in a field', `${OK}content-length: 2, 2\r\n\r\nhi`, 200, 'hi'],
  ['a head of 20 KiB', `${OK}x: ${'y'.repeat(20_000)}\r\n${HI}`, 200, 'hi'],
  ['a status that is not assigned', `HTTP/1.1 599 X\r\n${HI}`, 599, 'hi'],
  ...TRAILERS.map((trailer): [string, string, number, string] => [
    `the trailer ${trailer.slice(0, 40)}`,
    `${CHUNKED}2\r\nhi\r\n0\r\n${trailer}\r\n\r\n`,
    200,
    'hi',
  ]),
]

describe('understood', () => {
  for (const [name, answer, status, body] of UNDERSTOOD) {
    test(name, async () => {
      for (const [method, front] of EACH) {
        const { asked, serve } = counting((socket) => socket.write(answer))
        const { session } = await openRawService(serve)
        for (const count of [1, 2]) {
          expect(await requestThrough(front, session, method), `${method} by ${front}`).toEqual({
            status,
            body,
          })
          expect(asked()).toBe(count)
        }
        const { inFlight } = session.cluster('http://calc')
        expect([inFlight, session.cluster('http://calc').stats().resends]).toEqual([0, 0])
      }
    })
  }

  test('205 with content: its content does not become the next answer', async () => {
    for (const front of ENTRIES) {
      let count = 0
      const { session } = await openRawService((socket) =>
        socket.write(
          ++count % 2 ? 'HTTP/1.1 205 R\r\ncontent-length: 5\r\n\r\nhello' : `${OK}${HI}`,
        ),
      )
      expect((await requestThrough(front, session, 'GET')).status).toBe(205)
      expect(await requestThrough(front, session, 'GET')).toEqual({ status: 200, body: 'hi' })
    }
  })
})

/** Refused before anything was passed on. */
const REFUSED: Readonly<Record<string, string>> = {
  'two lengths': `${OK}content-length: 1\r\n${HI}`,
  'two lengths in a field': `${OK}content-length: 1, 2\r\n\r\nhi`,
  'a length that is none': `${OK}content-length: abc\r\n\r\nhi`,
  'a negative length': `${OK}content-length: -1\r\n\r\nhi`,
  'a length beyond counting': `${OK}content-length: 99999999999999999999999\r\n\r\nhi`,
  'a length and chunks': `${OK}transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nhi\r\n0\r\n\r\n`,
  'a folded line': `${OK}x: a\r\n b\r\n${HI}`,
  'a control byte in a value': `${OK}x: a\x01b\r\n${HI}`,
  'NUL in a value': `${OK}x: a\x00b\r\n${HI}`,
  'a control byte in a name': `${OK}x\x01: b\r\n${HI}`,
  'a space in a name': `${OK}x y: b\r\n${HI}`,
  'a space before the colon': `${OK}x : b\r\n${HI}`,
  'a field without a colon': `${OK}x\r\n${HI}`,
  'lines that end with LF alone': `HTTP/1.1 200 OK\ncontent-length: 2\n\nhi`,
  'too large a head': `${OK}x: ${'y'.repeat(100_000)}\r\n${HI}`,
  'too many fields': `${OK}${'x: 0123456789\r\n'.repeat(8_000)}${HI}`,
  'another protocol': 'SSH-2.0-OpenSSH_9.2\r\n',
  'another protocol, without a line': '\x16\x03\x01\x02',
  'a status of two digits': `HTTP/1.1 99 X\r\n${HI}`,
  'a status of four digits': `HTTP/1.1 2000 X\r\n${HI}`,
  'a status that is no number': `HTTP/1.1 abc X\r\n${HI}`,
  'an unasked 101': 'HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n',
  'an unasked 101 without Connection': 'HTTP/1.1 101 S\r\nupgrade: x\r\n\r\n',
  'informational answers without end': 'HTTP/1.1 102 P\r\n\r\n'.repeat(1_000),
  '100s without end': 'HTTP/1.1 100 C\r\n\r\n'.repeat(1_000),
}

describe('refused for what it is: executed once, and the instance stays', () => {
  for (const [name, answer] of Object.entries(REFUSED)) {
    test.each(['stays open', 'ends'])(`${name}; the connection %s`, async (then) => {
      for (const [method, front] of EACH) {
        const { asked, serve } = counting((socket) => {
          socket.write(answer, 'latin1')
          if (then === 'ends') socket.end()
        })
        const { session } = await openRawService(serve)
        expect(await requestThrough(front, session, method), `${method} by ${front}`).toEqual({
          status: 502,
          code: 'MANYHOST_BAD_RESPONSE',
          body: '',
        })
        expect(asked()).toBe(1)
        const cluster = session.cluster('http://calc')
        expect(cluster.stats()).toMatchObject({ ejections: 0, resends: 0 })
        expect(cluster.inFlight).toBe(0)
      }
    })
  }

  test.each([
    ['a bad chunk', `${CHUNKED}zz\r\nhi\r\n0\r\n\r\n`],
    ['a bad chunk behind a good one', `${CHUNKED}2\r\nhi\r\nzz\r\n0\r\n\r\n`],
    ['a chunk that is longer than it says', `${CHUNKED}1\r\nhi\r\n0\r\n\r\n`],
    ['a chunk beyond counting', `${CHUNKED}ffffffffffffffffff\r\nhi`],
  ])('%s: the head was passed on, so the answer breaks off', async (_, answer) => {
    for (const [method, front] of EACH) {
      const { asked, serve } = counting((socket) => socket.write(answer))
      const { session } = await openRawService(serve)
      expect((await requestThrough(front, session, method)).code).toBe(
        'MANYHOST_RESPONSE_INTERRUPTED',
      )
      expect(asked()).toBe(1)
      expect(session.cluster('http://calc').stats().ejections).toBe(0)
    }
  })

  test('the error says what was wrong, by which instance, and has its one attempt', async () => {
    const { client } = await openRawService((socket) =>
      socket.write(`${OK}content-length: 1\r\n${HI}`),
    )
    const error = await client.post('http://calc/', { body: 'x' }).catch((thrown) => thrown)
    expect(error).toMatchObject({
      code: 'MANYHOST_BAD_RESPONSE',
      retryable: false,
      service: 'http://calc',
      attempts: [{ attempt: 1, reason: 'protocol' }],
    })
    expect(error.message).toMatch(
      /^POST http:\/\/calc \/: calc-\w+.* sent a response that is not valid HTTP/,
    )
  })

  test.each(['session', 'network'])('by the client, at an address of the %s', async (where) => {
    const { client, url } = await openRawService((socket) =>
      socket.write(`${OK}content-length: 1\r\n${HI}`),
    )
    const target = where === 'session' ? 'http://calc/' : url
    await expect(client.get(target)).rejects.toMatchObject({ code: 'MANYHOST_BAD_RESPONSE' })
  })

  test('an instance whose answers are all refused is ejected as others are: by failures in a row', async () => {
    const { client, session } = await openRawService((socket) => socket.write('SSH-2.0\r\n'), {
      ejectAfter: 2,
    })
    for (const count of [0, 1]) {
      await expect(client.get('http://calc/')).rejects.toMatchObject({
        code: 'MANYHOST_BAD_RESPONSE',
      })
      await waitUntil(() => session.cluster('http://calc').stats().ejections === count)
    }
  })

  test('`headerSize` is the bound of a head: below it is taken, above it is refused', async () => {
    const { session } = await openRawService(
      (socket) => socket.write(`${OK}x: ${'y'.repeat(2_000)}\r\n${HI}`),
      { headerSize: 2_100 },
    )
    expect(await requestThrough('client', session, 'GET')).toEqual({ status: 200, body: 'hi' })
    const { session: small } = await openRawService(
      (socket) => socket.write(`${OK}x: ${'y'.repeat(2_000)}\r\n${HI}`),
      { headerSize: 2_000 },
    )
    expect(await requestThrough('client', small, 'GET')).toMatchObject({
      code: 'MANYHOST_BAD_RESPONSE',
    })
    const { session: large } = await openRawService(
      (socket) => socket.write(`${OK}x: ${'y'.repeat(200_000)}\r\n${HI}`),
      { headerSize: 1 << 20 },
    )
    expect(await requestThrough('client', large, 'GET')).toEqual({ status: 200, body: 'hi' })
  })
})

const ENDED: Readonly<Record<string, string>> = {
  'nothing at all': '',
  'a status line that stops': 'HTTP/1.1 20',
  'a head that stops': `${OK}content-`,
  'a body too short': `${OK}content-length: 10\r\n\r\nhi`,
  'a body too short, and Connection: close': `${OK}connection: close\r\ncontent-length: 10\r\n\r\nhi`,
  'a 100, and no answer': 'HTTP/1.1 100 Continue\r\n\r\n',
}

describe('ended by its peer: sent again', () => {
  for (const [name, answer] of Object.entries(ENDED)) {
    test.each(['FIN', 'RST'])(`${name}, and %s`, async (how) => {
      for (const [method, front] of EACH) {
        let count = 0
        const { asked, serve } = counting((socket) => {
          if (++count > 1) return void socket.write(`${OK}${HI}`)
          socket.write(answer)
          if (how === 'FIN') socket.end()
          else setImmediate(() => socket.resetAndDestroy())
        })
        const { session } = await openRawService(serve)
        expect(await requestThrough(front, session, method), `${method} by ${front}`).toEqual({
          status: 200,
          body: 'hi',
        })
        expect(asked()).toBe(2)
        expect(session.cluster('http://calc').inFlight).toBe(0)
      }
    })
  }
})

describe("a provider's own dispatcher, of whose connections nothing is known but undici's codes", () => {
  async function plain(serve: (socket: Socket) => void) {
    const counted = counting(serve)
    const { url } = await openRawServer(counted.serve)
    const dispatcher = new Pool(url)
    const provider: Provider = {
      name: 'own',
      capabilities: new Set(['function']),
      start: async (): Promise<Running> => ({
        dispatcher,
        exited: new Promise(() => undefined),
        stop: () => dispatcher.destroy(),
      }),
    }
    const session = openSession(provider)
    onTestFinished(() => dispatcher.destroy())
    session.startup({ url: 'http://calc', maxAttempts: 2 }, () => undefined)
    return { session, asked: counted.asked }
  }

  test.each([
    ['two lengths', `${OK}content-length: 1\r\n${HI}`, 1, 'MANYHOST_BAD_RESPONSE'],
    ['a folded line', `${OK}x: a\r\n b\r\n${HI}`, 1, 'MANYHOST_BAD_RESPONSE'],
    ['too large a head', `${OK}x: ${'y'.repeat(20_000)}\r\n${HI}`, 1, 'MANYHOST_BAD_RESPONSE'],
    ['204 with a length', 'HTTP/1.1 204 N\r\ncontent-length: 9\r\n\r\n', 1, undefined],
    ['304 with a length', 'HTTP/1.1 304 N\r\ncontent-length: 9\r\n\r\n', 1, undefined],
  ])('%s', async (_, answer, count, code) => {
    const { session, asked } = await plain((socket) => socket.write(answer))
    expect((await requestThrough('client', session, 'POST')).code).toBe(code)
    expect(asked()).toBe(count)
  })

  test.each([
    ['a body too short', `${OK}content-length: 10\r\n\r\nhi`],
    [
      'a body too short, and Connection: close',
      `${OK}connection: close\r\ncontent-length: 10\r\n\r\nhi`,
    ],
    ['a head that stops', `${OK}content-`],
  ])('%s: sent again', async (_, answer) => {
    const { session, asked } = await plain((socket) => socket.end(answer))
    expect((await requestThrough('client', session, 'POST')).code).toBe(
      'MANYHOST_ATTEMPTS_EXHAUSTED',
    )
    expect(asked()).toBe(2)
  })
})

test('an upgrade whose 101 forgets Connection, and has the fields of a frame', async () => {
  const { session } = await openRawService((socket) =>
    socket.write(`HTTP/1.1 101 S\r\nUpgrade: x\r\ncontent-length: 0\r\n${FRAME}\r\n\r\nhello`),
  )
  const { socket } = await session
    .dispatcher()
    .upgrade({ origin: 'http://calc', path: '/', protocol: 'x' } as never)
  expect(String((await once(socket, 'data'))[0])).toBe('hello')
  socket.destroy()
  await waitUntil(() => session.cluster('http://calc').inFlight === 0)
})

test('requests outside of all services are answered as tolerantly', async () => {
  for (const [, answer, status, body] of UNDERSTOOD) {
    const { url } = await openRawServer((socket) => socket.write(answer))
    const res = await openService((_, res) => res.end()).client.get(url)
    expect([res.status, await res.text()]).toEqual([status, body])
  }
})

test('a health check whose 204 has a length passes', async () => {
  const { session } = await openRawService(
    (socket) => socket.write('HTTP/1.1 204 N\r\ncontent-length: 2\r\n\r\n'),
    { ready: '/ready' },
  )
  await waitUntil(() => session.cluster('http://calc').instances[0]?.state === 'ready')
})

/** Answers that no parser would let through, from a dispatcher that a provider made itself. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createServer2 } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { Dispatcher } from 'undici'
import { afterEach, describe, expect, test } from 'vitest'
import { createGateway } from '../../src/gateway/index.ts'
import { writeHead } from '../../src/gateway/response-writer.ts'
import { SessionCore } from '../../src/session/session.ts'
import { expectNothingLeft } from '../leftovers.ts'
import { cleanUp, onCleanup, sendRaw, waitUntil } from './gateway-fixture.ts'
import { sendHttp2Request } from './raw-instance.ts'

expectNothingLeft()

afterEach(cleanUp)

interface Odd {
  readonly status?: number
  readonly phrase?: string
  /** Names and values in turn, one character for a byte. */
  readonly head?: readonly string[]
  readonly trailers?: readonly string[]
  /** Of an informational answer before it. */
  readonly info?: readonly string[]
}

const bytes = (texts: readonly string[] = []): Buffer[] =>
  texts.map((text) => Buffer.from(text, 'latin1'))

/** undici's callbacks as they are called where no layer is between. */
interface Raw {
  onConnect(abort: () => void): void
  onHeaders(status: number, headers: Buffer[], resume: () => void, phrase: string): boolean
  onData(chunk: Buffer): boolean
  onComplete(trailers: Buffer[]): void
}

async function houseOf(odd: Odd) {
  let asked = 0
  class OddDispatcher extends Dispatcher {
    override dispatch(_options: unknown, handler: unknown): boolean {
      const { info, status = 200, head, phrase = 'OK', trailers } = odd
      const raw = handler as Raw
      const resume = (): void => undefined
      asked++
      setImmediate(() => {
        raw.onConnect(resume)
        if (info) raw.onHeaders(103, bytes(info), resume, 'Early Hints')
        raw.onHeaders(status, bytes(head), resume, phrase)
        raw.onData(Buffer.from('ab'))
        raw.onComplete(bytes(trailers))
      })
      return true
    }
  }
  const session = new SessionCore({
    provider: {
      name: 'odd',
      capabilities: new Set(['function', 'command']),
      start: async () => ({
        dispatcher: new OddDispatcher() as never,
        exited: new Promise(() => undefined),
        stop: async () => undefined,
      }),
    },
  })
  const cluster = session.startup({ url: 'http://calc', command: ['none'] })
  const gateway = await createGateway(session, { listen: '127.0.0.1:0', drainTimeout: 50 })
  onCleanup(async () => {
    await gateway.close()
    await session.close({ force: true })
  })
  return { cluster, url: gateway.url, port: Number(new URL(gateway.url).port), asked: () => asked }
}

const GET = 'GET /calc/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'

describe('a head that HTTP has not is a problem, and is asked for once', () => {
  test.each<[string, Odd]>([
    ['a name with a blank', { head: ['a b', 'c'] }],
    ['a name of nothing', { head: ['', 'c'] }],
    ['a name beyond ASCII', { head: ['\xe9', 'c'] }],
    ['a name with a line', { head: ['a\r\nb', 'c'] }],
    ['a value with a line', { head: ['a', 'b\r\nset-cookie: c'] }],
    ['a value with a zero', { head: ['a', 'b\0c'] }],
    ['two lengths', { head: ['content-length', '2', 'Content-Length', '3'] }],
    ['a length that is none', { head: ['content-length', 'two'] }],
    ['a status beyond all', { status: 1_000 }],
    ['a head that is none', { status: 99 }],
  ])('%s', async (_what, odd) => {
    const { port, url, cluster, asked } = await houseOf(odd)
    const text = await sendRaw(port, GET)
    expect(text).toMatch(/^HTTP\/1.1 502 .*"code":"MANYHOST_BAD_RESPONSE"/s)
    expect(text).not.toMatch(/set-cookie/i)
    expect(asked()).toBe(1)
    const two = await sendHttp2Request(url)
    expect(two.headers[':status']).toBe(502)
    expect(two.body).toContain('"code":"MANYHOST_BAD_RESPONSE"')
    expect(asked()).toBe(2)
    await waitUntil(() => cluster.inFlight === 0)
  })
})

describe('what need not be there is left out', () => {
  test.each<[string, Odd]>([
    ['an odd phrase', { phrase: 'a\r\nset-cookie: b' }],
    ['a phrase of half a pair', { phrase: '\ud800' }],
    ['a pseudo-header', { head: [':status', '500'] }],
    [
      'odd trailers',
      { trailers: ['a b', 'c', '', 'd', 'e', 'f\r\nset-cookie: g', ':status', '500'] },
    ],
    ['an odd hint', { info: ['link', '<\r\nset-cookie: a>', 'a b', 'c'] }],
  ])('%s', async (_what, odd) => {
    const { port, url, cluster, asked } = await houseOf(odd)
    const text = await sendRaw(port, GET)
    expect(text).toMatch(/^(?:HTTP\/1.1 103 Early Hints\r\n\r\n)?HTTP\/1.1 200 OK\r\n/)
    expect(text).toMatch(/\r\nab\r\n0\r\n\r\n$/)
    expect(text).not.toMatch(/set-cookie/i)
    expect(asked()).toBe(1)
    const two = await sendHttp2Request(url)
    expect(two).toMatchObject({ headers: { ':status': 200 }, body: 'ab', code: 0 })
    await waitUntil(() => cluster.inFlight === 0)
  })
})

test('what node refuses all the same cuts the answer off, and the next client is served', async () => {
  const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    const isOdd = request.url === '/odd'
    if (writeHead(request, response, 200, '', isOdd ? ['a b', 'c'] : ['x-a', 'b']))
      response.end('ok')
  }
  const one = createServer(onRequest)
  const two = createServer2(onRequest as never)
  for (const server of [one, two]) {
    await once(server.listen(0, '127.0.0.1'), 'listening')
    onCleanup(async () => server.close())
  }
  const port = (one.address() as AddressInfo).port
  expect(await sendRaw(port, 'GET /odd HTTP/1.1\r\nHost: x\r\n\r\n')).toBe('')
  expect(await sendRaw(port, 'GET / HTTP/1.0\r\nHost: x\r\n\r\n')).toMatch(/x-a: b\r\n.*ok$/s)
  const url = `http://127.0.0.1:${(two.address() as AddressInfo).port}`
  await expect(sendHttp2Request(url, { ':path': '/odd' })).rejects.toThrow('no answer')
  expect((await sendHttp2Request(url, { ':path': '/' })).body).toBe('ok')
})

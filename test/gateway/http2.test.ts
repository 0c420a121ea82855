import { once } from 'node:events'
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { type ClientHttp2Session, connect, type OutgoingHttpHeaders } from 'node:http2'
import { connect as dialTcp } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as tlsConnect } from 'node:tls'
import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { createGateway } from '../../src/gateway/index.ts'
import { certificate } from '../fakes/certificate.ts'
import { runEventLoop } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'
import {
  cleanUp,
  connectRaw,
  createLatch,
  onCleanup,
  openGatewayFixture,
  waitUntil,
} from './gateway-fixture.ts'

expectNothingLeft()

afterEach(cleanUp)

function open(url: string): ClientHttp2Session {
  const session = connect(url, { rejectUnauthorized: false })
  session.on('error', () => undefined)
  onCleanup(async () => session.destroy())
  return session
}

function reaches(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = dialTcp({ port, host: '127.0.0.1' })
    socket.once('connect', () => resolve(true))
    socket.once('error', () => resolve(false))
    socket.once('close', () => resolve(false))
    onCleanup(async () => socket.destroy())
  })
}

type Answer = { status: number; headers: Record<string, unknown>; body: string; trailers: object }

async function ask(
  session: ClientHttp2Session,
  headers: OutgoingHttpHeaders,
  body?: string,
): Promise<Answer> {
  const stream = session.request(
    { ':authority': 'calc', ...headers },
    { endStream: body === undefined },
  )
  if (body !== undefined) stream.end(body)
  let trailers = {}
  stream.on('trailers', (all) => {
    trailers = all
  })
  const [head] = await once(stream, 'response')
  let text = ''
  for await (const chunk of stream) text += chunk
  return { status: head[':status'], headers: head, body: text, trailers }
}

describe('by prior knowledge, beside HTTP/1.1', () => {
  test('more header fields than `headerCount`: 431, and the connection goes on; far more: none of it', async () => {
    const { url } = await openGatewayFixture(undefined, { gateway: { headerCount: 20 } })
    const session = open(url)
    const fields = (count: number): OutgoingHttpHeaders =>
      Object.fromEntries(Array.from({ length: count }, (_, i) => [`x-${i}`, `${i}`]))
    expect((await ask(session, fields(21))).status).toBe(431)
    expect((await ask(session, fields(20))).status).toBe(200)
    await expect(ask(session, fields(200))).rejects.toThrow()
    expect((await ask(open(url), fields(20))).status).toBe(200)
  })

  test('requests with and without a body, many at a time', async () => {
    const { url, port } = await openGatewayFixture()
    const session = open(url)
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, i) =>
        ask(session, { ':path': `/${i}`, ':method': 'POST' }, `b${i}`),
      ),
    )
    answers.forEach(({ body }, i) => {
      expect(JSON.parse(body)).toMatchObject({ url: `/${i}`, body: `b${i}`, method: 'POST' })
    })
    const { body, headers } = await ask(session, {
      ':path': '/calc/x?y',
      ':authority': 'x',
      cookie: ['a=1', 'b=2'],
    })
    expect(JSON.parse(body)).toMatchObject({
      url: '/x?y',
      headers: { cookie: 'a=1; b=2', host: 'calc', via: '2.0 manyhost' },
    })
    expect(headers['x-request-id']).toBeDefined()
    const one = await connectRaw(port, 'GET /calc/x HTTP/1.1\r\nHost: x\r\n\r\n')
    await one.match('"url":"/x"')
  })

  test('a preface in fragments', async () => {
    const { port } = await openGatewayFixture()
    const wire = await connectRaw(port)
    for (const piece of ['P', 'R', 'I * HT', 'TP/2.0\r\n\r\nSM\r\n\r\n', '\0\0\0\x04\0\0\0\0\0']) {
      await new Promise((resolve) => wire.socket.write(piece, 'latin1', resolve))
      await new Promise((resolve) => setImmediate(resolve))
    }
    await waitUntil(() => wire.text.length >= 9)
    expect(wire.text.charCodeAt(3)).toBe(4)
    const post = await connectRaw(port)
    await new Promise((resolve) => post.socket.write('P', resolve))
    await runEventLoop()
    post.write('OST /calc/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab')
    await post.match('"body":"ab"')
  })

  test('trailers of requests are taken off', async () => {
    const { url } = await openGatewayFixture()
    const stream = open(url).request(
      { ':authority': 'calc', ':path': '/', ':method': 'POST', trailer: 'x-sum' },
      { waitForTrailers: true },
    )
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': '6' }))
    stream.end('abc')
    let text = ''
    for await (const chunk of stream) text += chunk
    expect(JSON.parse(text)).toMatchObject({ body: 'abc', method: 'POST' })
    expect(text).not.toMatch(/trailer|x-sum/)
  })

  test('trailers, streams and hints come through', async () => {
    const more = createLatch()
    const { url } = await openGatewayFixture(async (_req, res) => {
      res.writeEarlyHints({ link: '</a.css>; rel=preload' })
      res.writeHead(200, ['trailer', 'x-sum', 'date', 'a', 'date', 'b', 'x-a', '1', 'x-a', '2'])
      res.write('abc')
      await more.promise
      res.addTrailers({ 'x-sum': '6' })
      res.end('def')
    })
    const stream = open(url).request({ ':authority': 'calc', ':path': '/' })
    const hints: number[] = []
    stream.on('headers', (head) => hints.push(head[':status'] as number))
    const [head] = await once(stream, 'response')
    expect(head).toMatchObject({ ':status': 200, 'x-a': '1, 2', date: 'a' })
    const trailers = once(stream, 'trailers')
    expect(String((await once(stream, 'data'))[0])).toBe('abc')
    more.open()
    stream.resume()
    expect((await trailers)[0]).toMatchObject({ 'x-sum': '6' })
    expect(hints).toEqual([103])
  })

  test('an abort frees the place; a flood of them is bounded; a death in the middle is an error', async () => {
    const { url, cluster, provider } = await openGatewayFixture((req, res) => {
      if (req.url === '/some') res.write('abc')
    })
    const session = open(url)
    const stream = session.request({ ':authority': 'calc', ':path': '/' })
    await waitUntil(() => cluster.inFlight === 1)
    stream.close(8)
    await waitUntil(() => cluster.inFlight === 0)
    for (let i = 0; i < 200; i++)
      session
        .request({ ':authority': 'calc', ':path': '/' })
        .on('error', () => undefined)
        .close(8)
    await waitUntil(() => cluster.inFlight === 0 && cluster.requestQueue.isEmpty)
    const cut = open(url).request({ ':authority': 'calc', ':path': '/some' })
    await once(cut, 'data')
    const failed = once(cut, 'error')
    provider.instances[0]?.kill()
    await expect(failed).resolves.toMatchObject([{ code: 'ERR_HTTP2_STREAM_ERROR' }])
  })

  test('bad names and targets are refused, a large body is, the asterisk is answered', async () => {
    const { url } = await openGatewayFixture(undefined, { gateway: { bodySize: 10 } })
    const session = open(url)
    const status = async (headers: OutgoingHttpHeaders, body?: string) =>
      (await ask(session, headers, body)).status
    expect(await status({ ':authority': 'a,b', ':path': '/' })).toBe(400)
    expect(await status({ host: 'other', ':path': '/' })).toBe(400)
    expect(await status({ ':path': '*', ':method': 'OPTIONS' })).toBe(204)
    // nghttp2 refuses it by itself: the stream is reset.
    await expect(status({ ':path': '*' })).rejects.toThrow('PROTOCOL_ERROR')
    expect(
      await status({ ':path': '/', ':method': 'POST', 'content-length': '11' }, '12345678901'),
    ).toBe(413)
    expect(await status({ ':path': '/', ':method': 'POST' }, '12345678901')).toBe(413)
    expect(await status({ ':path': '/' })).toBe(200)
  })

  test('close() lets streams end', async () => {
    const more = createLatch()
    const { url, port, gateway } = await openGatewayFixture(
      async (_req, res) => {
        res.write('abc')
        await more.promise
        res.end('def')
      },
      { gateway: { drainTimeout: 25_000 } },
    )
    const stream = open(url).request({ ':authority': 'calc', ':path': '/' })
    let text = ''
    stream.on('data', (chunk) => {
      text += chunk
    })
    await waitUntil(() => text === 'abc')
    const closed = gateway.close()
    // No new connection gets in any more: it closes, and waits.
    await waitUntil(async () => !(await reaches(port)))
    more.open()
    await once(stream, 'end')
    expect(text).toBe('abcdef')
    await closed
  })
})

describe('TLS', () => {
  function folder(): string {
    const path = mkdtempSync(join(tmpdir(), 'manyhost-tls-'))
    onCleanup(async () => rmSync(path, { recursive: true }))
    return path
  }

  // `allowHalfOpen` is node:net's, and missing in the types of node:tls.
  const DIAL = { host: '127.0.0.1', rejectUnauthorized: false, allowHalfOpen: true }

  async function nameAt(
    port: number,
    ALPNProtocols = ['http/1.1'],
  ): Promise<{ name: string; alpn: unknown }> {
    const socket = tlsConnect({ port, host: '127.0.0.1', rejectUnauthorized: false, ALPNProtocols })
    await once(socket, 'secureConnect')
    const name = String(socket.getPeerCertificate().subject.CN)
    socket.destroy()
    return { name, alpn: socket.alpnProtocol }
  }

  test('HTTP/2 and HTTP/1.1 by ALPN, half-closed clients too, and limits', async () => {
    const tls = certificate(folder(), 'one')
    const { url, port } = await openGatewayFixture(undefined, {
      gateway: { tls, headerTime: 5_000 },
    })
    expect(url).toMatch(/^https:/)
    const { body } = await ask(open(url), { ':path': '/x', ':method': 'POST' }, 'abc')
    expect(JSON.parse(body)).toMatchObject({
      url: '/x',
      body: 'abc',
      headers: { 'x-forwarded-proto': 'https' },
    })
    expect(await nameAt(port)).toEqual({ name: 'one', alpn: 'http/1.1' })
    const socket = tlsConnect({ ...DIAL, port })
    socket.end('GET /calc/x HTTP/1.1\r\nHost: x\r\n\r\n')
    let text = ''
    for await (const chunk of socket) text += chunk
    expect(text).toMatch(/200 OK.*"url":"\/x"/s)
    // Its handshake is to be over by then, however busy the machine is.
    const slow = tlsConnect({ port, host: '127.0.0.1', rejectUnauthorized: false })
    slow.write('GET / HT')
    let said = ''
    for await (const chunk of slow) said += chunk
    expect(said).toMatch(/^HTTP\/1.1 408 /)
  })

  test('a certificate that changes is taken up, a broken one is not', async () => {
    // The files are looked at when the test says so.
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    onTestFinished(() => void vi.useRealTimers())
    const look = (): unknown => vi.advanceTimersByTime(1_000)
    const home = folder()
    const used = certificate(home, 'one')
    const { port } = await openGatewayFixture(undefined, { gateway: { tls: used } })
    const change = ({ cert, key }: typeof used): void => {
      copyFileSync(cert, used.cert)
      copyFileSync(key, used.key)
    }
    change(certificate(home, 'second'))
    expect((await nameAt(port)).name).toBe('one')
    look()
    expect((await nameAt(port)).name).toBe('second')
    for (const rubbish of ['rubbish', '']) {
      writeFileSync(used.cert, rubbish)
      look()
      expect((await nameAt(port)).name).toBe('second')
    }
    rmSync(used.cert)
    look()
    expect((await nameAt(port)).name).toBe('second')
    change(certificate(home, 'the third'))
    look()
    expect((await nameAt(port)).name).toBe('the third')
  })

  test('files that are not there, or do not fit, give one clear error', async () => {
    const home = folder()
    const [a, b] = [certificate(home, 'a'), certificate(home, 'b')]
    const { session } = await openGatewayFixture()
    for (const tls of [
      { cert: '/no/such', key: a.key },
      { cert: a.cert, key: b.key },
    ]) {
      await expect(createGateway(session, { listen: '127.0.0.1:0', tls })).rejects.toMatchObject({
        code: 'MANYHOST_INVALID_OPTION',
        message: expect.stringMatching(/^gateway: tls: /),
      })
    }
  })
})

import { once } from 'node:events'
import { gzipSync } from 'node:zlib'
import { afterEach, describe, expect, test } from 'vitest'
import { runEventLoop } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'
import {
  cleanUp,
  connectRaw,
  createLatch,
  openGatewayFixture,
  sendRaw,
  waitUntil,
  waitUntilIdle,
} from './gateway-fixture.ts'

expectNothingLeft()

afterEach(cleanUp)

const POST = 'POST /calc/x HTTP/1.1\r\nHost: x\r\n'

describe('request bodies', () => {
  test('none, small, and chunked; trailers of requests are taken off', async () => {
    const { port } = await openGatewayFixture()
    expect(await sendRaw(port, `${POST}Content-Length: 0\r\nConnection: close\r\n\r\n`)).toContain(
      '"body":""',
    )
    expect(
      await sendRaw(port, `${POST}Content-Length: 3\r\nConnection: close\r\n\r\nabc`),
    ).toContain('"body":"abc"')
    const text = await sendRaw(
      port,
      `${POST}Transfer-Encoding: chunked\r\nTrailer: x\r\nConnection: close\r\n\r\n2;a=b\r\nab\r\n1\r\nc\r\n0\r\nx: y\r\n\r\n`,
    )
    expect(text).toContain('"body":"abc"')
    expect(text).not.toContain('"trailer"')
    // Nor are they put among the fields of the head, where somebody might believe them.
    expect(text).not.toContain('"x":')
    const get =
      'GET /calc/x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc'
    expect(await sendRaw(port, get)).toContain('"body":"abc"')
  })

  test('a small one is taken in before an instance is asked', async () => {
    const { port, provider, cluster } = await openGatewayFixture()
    await waitUntil(() => cluster.instances[0]?.state === 'ready')
    const wire = await connectRaw(port, `${POST}Content-Length: 3\r\nConnection: close\r\n\r\na`)
    // One that comes later has been there and back.
    await sendRaw(port, 'GET /calc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
    await runEventLoop()
    expect(cluster.inFlight).toBe(0)
    expect(provider.instances[0]?.requests).toBe(1)
    wire.write('bc')
    expect(await wire.end()).toContain('"body":"abc"')
  })

  test('a large one streams, at the pace of the instance', async () => {
    const open = createLatch()
    const arrived = createLatch()
    let count = 0
    const { port } = await openGatewayFixture(
      async (req, res) => {
        arrived.open()
        await open.promise
        for await (const chunk of req) count += chunk.length
        res.end(String(count))
      },
      { service: { resend: 'never' } },
    )
    const size = 64 * 2 ** 20
    const wire = await connectRaw(
      port,
      `${POST}Content-Length: ${size}\r\nConnection: close\r\n\r\n`,
    )
    const piece = Buffer.alloc(2 ** 20, 'z')
    for (let sent = 0; sent < size; sent += piece.length) wire.socket.write(piece)
    await arrived.promise
    // Nobody reads: the sockets' buffers fill, and no more is taken.
    await waitUntilIdle(wire)
    expect(wire.socket.writableLength).toBeGreaterThan(size / 4)
    open.open()
    await wire.match(String(size))
  })

  test('a bad chunk in the middle is a 400, and the instance sees a broken request', async () => {
    const broken = createLatch()
    const arrived = createLatch()
    const { port } = await openGatewayFixture((req) => {
      req.on('error', broken.open)
      req.on('data', arrived.open)
    })
    const wire = await connectRaw(port, `${POST}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n`)
    await arrived.promise
    wire.write('x\r\n')
    expect(await wire.end()).toMatch(/^HTTP\/1.1 400 .*MANYHOST_BAD_REQUEST/s)
    await broken.promise
  })
})

describe('Expect: 100-continue', () => {
  const ASK = `${POST}Expect: 100-continue\r\nConnection: close\r\n`

  test('is answered when the body is wanted', async () => {
    const { port } = await openGatewayFixture()
    const wire = await connectRaw(port, `${ASK}Content-Length: 3\r\n\r\n`)
    await wire.match('HTTP/1.1 100 Continue\r\n\r\n')
    wire.write('abc')
    expect(await wire.end()).toContain('"body":"abc"')
    const chunked = await connectRaw(port, `${ASK}Transfer-Encoding: chunked\r\n\r\n`)
    await chunked.match('HTTP/1.1 100 Continue\r\n\r\n')
    chunked.write('3\r\nabc\r\n0\r\n\r\n')
    expect((await chunked.end()).split('100 Continue')).toHaveLength(2)
  })

  test('is not when it is refused', async () => {
    const { port, cluster } = await openGatewayFixture(undefined, {
      service: { initSize: 0, maxQueue: 0 },
      gateway: { bodySize: 100_000 },
    })
    expect(await sendRaw(port, `${ASK}Content-Length: 100001\r\n\r\n`)).toMatch(/^HTTP\/1.1 413 /)
    expect(await sendRaw(port, `${ASK.replace('/calc', '/no')}Content-Length: 3\r\n\r\n`)).toMatch(
      /^HTTP\/1.1 404 /,
    )
    expect(await sendRaw(port, `${ASK}Content-Length: 99999\r\n\r\n`)).toMatch(/^HTTP\/1.1 503 /)
    expect(cluster.inFlight).toBe(0)
  })
})

describe('answers', () => {
  test('an event stream comes as it is written', async () => {
    const more = createLatch()
    const { port } = await openGatewayFixture(async (_req, res) => {
      res.writeHead(200, { 'content-type': 'text/event-stream' })
      res.flushHeaders()
      await more.promise
      res.write('data: 1\n\n')
    })
    const wire = await connectRaw(port, 'GET /calc HTTP/1.1\r\nHost: x\r\n\r\n')
    await wire.match('text/event-stream')
    more.open()
    await wire.match('data: 1')
  })

  test('trailers, 103, and a coded body untouched', async () => {
    const coded = gzipSync('hello')
    const { port } = await openGatewayFixture((_req, res) => {
      res.writeEarlyHints({ link: '</a.css>; rel=preload; as=style' })
      res.writeHead(200, { trailer: 'x-sum', 'content-encoding': 'gzip' })
      res.write(coded)
      res.addTrailers({ 'x-sum': '5' })
      res.end()
    })
    const text = await sendRaw(port, 'GET /calc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
    expect(text).toMatch(
      /^HTTP\/1.1 103 Early Hints\r\nlink: <\/a.css>; rel=preload; as=style\r\n\r\nHTTP\/1.1 200/i,
    )
    expect(text).toContain(coded.toString('latin1'))
    expect(text).toMatch(/0\r\nx-sum: 5\r\n\r\n$/i)
    expect(text).toMatch(/trailer: x-sum\r\n/i)
  })

  test('back-pressure reaches the instance', async () => {
    let written = 0
    let isStopped = false
    const size = 64 * 2 ** 20
    const piece = Buffer.alloc(65_536, 'z')
    const { port } = await openGatewayFixture(async (req, res) => {
      res.writeHead(200, { 'content-length': size })
      for (; written < size; written += piece.length) {
        if (res.write(piece)) continue
        isStopped = true
        await once(res, 'drain')
        isStopped = false
      }
      res.end()
      req.resume()
    })
    const wire = await connectRaw(port)
    wire.socket.pause()
    wire.write('GET /calc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
    let before = -1
    await waitUntil(() => {
      const stopped = isStopped && written === before && written > 0
      before = written
      return stopped
    })
    expect(written).toBeLessThan(size / 2)
    let got = 0
    wire.socket.removeAllListeners('data').on('data', (chunk) => {
      got += chunk.length
    })
    wire.socket.resume()
    await waitUntil(() => got >= size)
    expect(got).toBeGreaterThanOrEqual(size)
  })

  test('to HTTP/1.0 the body ends with the connection, and a reset says that it is cut short', async () => {
    const more = createLatch()
    const { port, provider } = await openGatewayFixture(async (req, res) => {
      res.write('abc')
      if (req.url === '/cut') await more.promise
      res.end('def')
    })
    expect(await sendRaw(port, 'GET /calc HTTP/1.0\r\n\r\n')).toMatch(/^HTTP\/1.1 200 .*abcdef$/s)
    const wire = await connectRaw(port, 'GET /calc/cut HTTP/1.0\r\n\r\n')
    await wire.match('abc')
    provider.instances[0]?.kill()
    await waitUntil(() => wire.error !== undefined)
    expect(wire.error).toMatchObject({ code: 'ECONNRESET' })
    more.open()
  })

  test('a death in the middle cuts the connection: no last chunk', async () => {
    const { port, provider } = await openGatewayFixture((_req, res) => void res.write('abc'))
    const wire = await connectRaw(port, 'GET /calc HTTP/1.1\r\nHost: x\r\n\r\n')
    await wire.match('abc')
    provider.instances[0]?.kill()
    expect(await wire.end()).toMatch(/3\r\nabc\r\n$/)
  })

  test('an answer that HTTP has not is a 502', async () => {
    const { port } = await openGatewayFixture(
      (req, res) => {
        const [, status] = (req.url as string).split('/')
        req.socket.end(`HTTP/1.1 ${status} Ok\r\ncontent-length: 0\r\nconnection: close\r\n\r\n`)
        res.destroy()
      },
      { service: { maxAttempts: 1 } },
    )
    for (const status of ['000', '099']) {
      const text = await sendRaw(
        port,
        `GET /calc/${status} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
      )
      expect(text, status).toMatch(/^HTTP\/1.1 502 /)
    }
  })
})

import { request } from 'undici'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { runEventLoop } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'
import {
  advanceUntil,
  cleanUp,
  connectRaw,
  createLatch,
  openGatewayFixture,
  sendRaw,
  waitUntil,
} from './gateway-fixture.ts'

expectNothingLeft()

afterEach(async () => {
  vi.useRealTimers()
  await cleanUp()
})

const GET = 'GET /calc/x HTTP/1.1\r\nHost: x\r\n\r\n'
const POST = 'POST /calc/x HTTP/1.1\r\nHost: x\r\n'

describe('errors are problems', () => {
  test('503 with Retry-After when the queue is full, or its time over', async () => {
    const { url, session } = await openGatewayFixture(undefined, {
      service: { initSize: 0, maxQueue: 0 },
    })
    session.startup({ url: 'http://slow', initSize: 0, queueTimeout: 20 })
    for (const [path, code] of [
      ['/calc', 'MANYHOST_QUEUE_FULL'],
      ['/slow', 'MANYHOST_QUEUE_TIMEOUT'],
    ]) {
      const res = await request(url + path)
      expect(res.statusCode).toBe(503)
      expect(res.headers['retry-after']).toBe('1')
      expect(await res.body.json()).toMatchObject({ code, retryable: true })
    }
  })

  test('504 at the deadline', async () => {
    const { url } = await openGatewayFixture(() => undefined, { service: { timeout: 30 } })
    const res = await request(`${url}/calc`)
    expect(res.statusCode).toBe(504)
    expect(await res.body.json()).toMatchObject({ code: 'MANYHOST_TIMEOUT' })
  })

  test('502 with what each attempt met', async () => {
    const { url } = await openGatewayFixture((req) => req.socket.destroy(), {
      service: { maxAttempts: 2 },
    })
    const res = await request(`${url}/calc`, { method: 'POST', body: 'x' })
    expect(res.statusCode).toBe(502)
    const problem = (await res.body.json()) as { attempts: unknown[] }
    expect(problem).toMatchObject({ code: 'MANYHOST_ATTEMPTS_EXHAUSTED' })
    expect(problem.attempts).toHaveLength(2)
  })
})

describe('a client that goes away frees its place', () => {
  test.each(['end', 'reset'] as const)('in the queue, by %s', async (how) => {
    const { port, cluster } = await openGatewayFixture(undefined, { service: { initSize: 0 } })
    const wire = await connectRaw(port, GET)
    await waitUntil(() => cluster.requestQueue.size === 1)
    if (how === 'reset') wire.socket.resetAndDestroy()
    else wire.socket.destroy()
    await waitUntil(() => cluster.requestQueue.size === 0)
  })

  test.each(['end', 'reset'] as const)('in flight, by %s', async (how) => {
    const { port, cluster } = await openGatewayFixture(() => undefined)
    const wire = await connectRaw(port, GET)
    await waitUntil(() => cluster.inFlight === 1)
    if (how === 'reset') wire.socket.resetAndDestroy()
    else wire.socket.destroy()
    await waitUntil(() => cluster.inFlight === 0)
  })

  test('in the middle of its body, and of the answer', async () => {
    const { port, cluster } = await openGatewayFixture((req, res) => {
      if (req.method === 'GET') res.write('abc')
      else req.resume()
    })
    const sending = await connectRaw(port, `${POST}Content-Length: 1000000\r\n\r\nabc`)
    await waitUntil(() => cluster.inFlight === 1)
    sending.socket.destroy()
    await waitUntil(() => cluster.inFlight === 0)
    const reading = await connectRaw(port, GET)
    await reading.match('abc')
    reading.socket.destroy()
    await waitUntil(() => cluster.inFlight === 0)
  })

  test('resets at every stage leave nothing behind', async () => {
    const { port, cluster } = await openGatewayFixture(async (req, res) => {
      for await (const _ of req);
      res.write('abc')
      setImmediate(() => res.end('def'))
    })
    const whole = `${POST}Content-Length: 70000\r\n\r\n${'x'.repeat(70_000)}${GET}`
    for (let at = 1; at < whole.length; at += Math.ceil(whole.length / 60)) {
      const wire = await connectRaw(port, whole.slice(0, at))
      await new Promise((resolve) => setImmediate(resolve))
      wire.socket.resetAndDestroy()
    }
    await waitUntil(() => cluster.inFlight === 0 && cluster.requestQueue.isEmpty)
    expect(await sendRaw(port, GET.replace('Host: x', 'Host: x\r\nConnection: close'))).toContain(
      'abc',
    )
  })
})

describe('a client that closes its half gets its answer', () => {
  test.each([true, false])('known length: %s', async (hasLength) => {
    const go = createLatch()
    const { port } = await openGatewayFixture(async (req, res) => {
      await go.promise
      if (hasLength) res.setHeader('content-length', 6)
      res.write(`${req.url}a`)
      await runEventLoop()
      res.end('def')
    })
    const wire = await connectRaw(port, `${GET}${POST}Content-Length: 2\r\n\r\nab`)
    wire.socket.end()
    await wire.match('100 Continue')
    await wire.match(/100 Continue\r\n\r\n(.*)100 Continue/s)
    go.open()
    const text = await wire.end()
    const answers = text.replace(/HTTP\/1.1 100 Continue\r\n\r\n/g, '').split('HTTP/1.1 200 OK')
    expect(answers).toHaveLength(3)
    expect(answers[1]).toContain('/xa')
    expect(answers[2]).toContain('def')
  })
})

describe('limits', () => {
  test('more header fields than `headerCount`: 431 and an end; as many are passed on', async () => {
    const { port } = await openGatewayFixture(undefined, { gateway: { headerCount: 20 } })
    const fields = (count: number): string =>
      Array.from({ length: count }, (_, i) => `X-${i}: ${i}\r\n`).join('')
    const text = await sendRaw(port, `GET / HTTP/1.1\r\nHost: calc\r\n${fields(20)}\r\n`)
    expect(text).toMatch(/^HTTP\/1.1 431 /)
    expect(text).toContain('MANYHOST_TOO_MANY_HEADERS')
    const good = await sendRaw(
      port,
      `GET / HTTP/1.1\r\nHost: calc\r\nConnection: close\r\n${fields(18)}\r\n`,
    )
    expect(good).toMatch(/^HTTP\/1.1 200 /)
    expect(good).toContain('"x-17":"17"')
  })

  test('a `headerSize` below a kilobyte is one, too', async () => {
    const { port } = await openGatewayFixture(undefined, { gateway: { headerSize: 200 } })
    const get = (more: string): Promise<string> =>
      sendRaw(port, `GET / HTTP/1.1\r\nHost: calc\r\nConnection: close\r\n${more}\r\n`)
    expect(await get('')).toMatch(/^HTTP\/1.1 200 /)
    expect(await get(`X-A: ${'a'.repeat(200)}\r\n`)).toMatch(/^HTTP\/1.1 431 /)
  })

  test('headers too large: 431', async () => {
    const { port } = await openGatewayFixture(undefined, { gateway: { headerSize: 2_048 } })
    const text = await sendRaw(
      port,
      `GET /calc HTTP/1.1\r\nHost: x\r\nX: ${'a'.repeat(3_000)}\r\n\r\n`,
    )
    expect(text).toMatch(/^HTTP\/1.1 431 /)
  })

  test('headers too slow: 408; nothing at all: closed', async () => {
    // Ours is the time for the first bytes, node:http's what follows: no load is to end a connection before they came.
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const { port } = await openGatewayFixture(undefined, { gateway: { headerTime: 50 } })
    const begun = await connectRaw(port, 'GET /calc HTTP/1.1\r\nHo')
    await advanceUntil(0, () => begun.isOver)
    expect(begun.text).toMatch(/^HTTP\/1.1 408 /)
    for (const text of ['', 'P']) {
      const wire = await connectRaw(port, text)
      await advanceUntil(50, () => wire.isOver)
      expect(wire.text).toBe('')
    }
  })

  test('bodies too large: 413, with and without a length', async () => {
    const { port, cluster } = await openGatewayFixture(undefined, { gateway: { bodySize: 10 } })
    expect(await sendRaw(port, `${POST}Content-Length: 11\r\n\r\n`)).toMatch(/^HTTP\/1.1 413 /)
    const chunked = `${POST}Transfer-Encoding: chunked\r\n\r\n`
    expect(await sendRaw(port, `${chunked}b\r\n12345678901\r\n`)).toMatch(
      /^HTTP\/1.1 413 .*TOO_LARGE/s,
    )
    await waitUntil(() => cluster.inFlight === 0)
    expect(
      await sendRaw(port, `${POST}Connection: close\r\nContent-Length: 10\r\n\r\n1234567890`),
    ).toMatch(/^HTTP\/1.1 200 /)
  })

  test('bodies too slow: 408', async () => {
    const { port, cluster } = await openGatewayFixture()
    await waitUntil(() => cluster.instances[0]?.state === 'ready')
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] })
    const small = await connectRaw(port, `${POST}Content-Length: 10\r\n\r\n1`)
    const large = await connectRaw(port, `${POST}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n`)
    await waitUntil(() => cluster.inFlight === 1)
    await advanceUntil(1_000, () => small.isOver && large.isOver)
    expect(small.text).toMatch(/^HTTP\/1.1 408 .*TOO_SLOW/s)
    expect(large.text).toMatch(/^HTTP\/1.1 408 .*TOO_SLOW/s)
    await waitUntil(() => cluster.inFlight === 0)
  })

  test('connections: one too many is not let in', async () => {
    const { port } = await openGatewayFixture(undefined, { gateway: { connections: 1 } })
    const first = await connectRaw(port, GET)
    await first.match('200 OK')
    expect(await sendRaw(port, GET)).toBe('')
    first.write(GET)
    await first.match(/200 OK.*200 OK/s)
  })

  test('idle connections are closed', async () => {
    const { port } = await openGatewayFixture(undefined, { gateway: { keepAlive: 50 } })
    expect(await sendRaw(port, GET)).toMatch(/^HTTP\/1.1 200 /)
  })
})

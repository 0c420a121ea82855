/** Requests that a client sends before it has the answers to those before: in order, and bounded. */
import { afterEach, expect, test } from 'vitest'
import { runEventLoop } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'
import {
  cleanUp,
  connectRaw,
  createLatch,
  openGatewayFixture,
  waitUntil,
  waitUntilIdle,
} from './gateway-fixture.ts'
import { openRawGatewayFixture } from './raw-instance.ts'

expectNothingLeft()

afterEach(cleanUp)

const get = (path: string | number): string => `GET /${path} HTTP/1.1\r\nHost: calc\r\n\r\n`
/** One that is the first, and those that may be behind it at a time. */
const MOST = 17

test('a thousand are answered in their order, a few at a time', async () => {
  const { port, cluster } = await openGatewayFixture((req, res) => res.end(`<${req.url}>`), {
    service: { concurrency: 1 },
  })
  let most = 0
  const wire = await connectRaw(port, Array.from({ length: 1_000 }, (_, i) => get(i)).join(''))
  wire.write(get('last').replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'))
  await waitUntil(() => {
    most = Math.max(most, cluster.inFlight + cluster.requestQueue.size)
    return wire.isOver
  })
  const bodies = [...wire.text.matchAll(/<\/(\w+)>/g)].map(([, path]) => path)
  expect(bodies).toEqual([...Array(1_000).keys(), 'last'].map(String))
  expect(most).toBeLessThanOrEqual(MOST)
})

test('a client that ends its half behind them gets all of its answers', async () => {
  const { port } = await openGatewayFixture((req, res) => res.end(`<${req.url}>`))
  const wire = await connectRaw(port, Array.from({ length: 300 }, (_, i) => get(i)).join(''))
  wire.socket.end()
  const bodies = [...(await wire.end()).matchAll(/<\/(\w+)>/g)].map(([, path]) => Number(path))
  expect(bodies).toEqual([...Array(300).keys()])
})

test('those of another connection do not wait for them', async () => {
  const hold = createLatch()
  const { port, cluster } = await openGatewayFixture(
    async (req, res) => {
      if (req.url !== '/now') await hold.promise
      res.end(`<${req.url}>`)
    },
    { service: { concurrency: 100 } },
  )
  const slow = await connectRaw(port, Array.from({ length: 100 }, (_, i) => get(i)).join(''))
  await waitUntil(() => cluster.inFlight === MOST)
  await (await connectRaw(port, get('now'))).match('</now>')
  await runEventLoop()
  expect(cluster.stats().arrivals).toBe(MOST + 1)
  hold.open()
  await slow.match('</99>')
})

test('a body behind others is read when it is its turn', async () => {
  const hold = createLatch()
  const { port } = await openGatewayFixture(
    async (req, res) => {
      const body = (await req.toArray()).join('')
      if (req.url === '/0') await hold.promise
      res.end(`<${req.url} ${body}>`)
    },
    { service: { concurrency: 100 } },
  )
  const body = 'x'.repeat(200_000)
  const post = `POST /post HTTP/1.1\r\nHost: calc\r\nTransfer-Encoding: chunked\r\n\r\n30d40\r\n${body}\r\n0\r\n\r\n`
  const wire = await connectRaw(port, Array.from({ length: 40 }, (_, i) => get(i)).join(''))
  wire.write(post + get('after'))
  hold.open()
  await wire.match('</after >')
  expect(wire.text).toContain(`</post ${body}>`)
})

test('a flood of them is not read while none is answered', async () => {
  const hold = createLatch()
  const { port, cluster } = await openGatewayFixture(
    async (_req, res) => {
      await hold.promise
      res.end()
    },
    { service: { concurrency: 100 } },
  )
  const some = get('x').repeat(10_000)
  const wire = await connectRaw(port)
  let written = 0
  for (let i = 0; i < 100; i++) written += wire.write(some) && some.length
  await waitUntil(() => cluster.inFlight === MOST)
  // What the kernel holds, a few megabytes, has left; the rest cannot.
  await waitUntilIdle(wire)
  expect(cluster.stats().arrivals).toBe(MOST)
  expect(wire.socket.writableLength).toBeGreaterThan(written / 2)
  // Not read, it is found to be gone when something is written to it.
  wire.socket.destroy()
  hold.open()
  await waitUntil(() => cluster.inFlight === 0 && cluster.requestQueue.size === 0)
  expect(cluster.stats().arrivals).toBeLessThan(10_000)
})

test('a client that goes away frees the places of all of them, and those that waited never begin', async () => {
  const seen: string[] = []
  const { port, cluster } = await openGatewayFixture(
    (req) => {
      seen.push(req.url ?? '')
    },
    { service: { concurrency: 100 } },
  )
  const wire = await connectRaw(port, Array.from({ length: 50 }, (_, i) => get(i)).join(''))
  await waitUntil(() => seen.length === MOST)
  wire.socket.resetAndDestroy()
  await waitUntil(() => cluster.inFlight === 0)
  await runEventLoop()
  expect(seen).toHaveLength(MOST)
  expect(cluster.stats()).toMatchObject({ arrivals: MOST, failures: MOST })
})

test('those before one that is no HTTP get their answers, also when its own is given already', async () => {
  for (const bad of ['Transfer-Encoding: c hunked', 'a b: c', 'Content-Length: x']) {
    const go = createLatch()
    const { port, cluster } = await openGatewayFixture(async (req, res) => {
      await go.promise
      res.end(`<${req.url}>`)
    })
    const odd = `POST /no HTTP/1.1\r\nHost: calc\r\n${bad}\r\n\r\n5\r\nabcde\r\n0\r\n\r\n`
    const wire = await connectRaw(port, get('a') + get('b') + odd)
    await waitUntil(() => cluster.inFlight === 2)
    await runEventLoop()
    go.open()
    expect(await wire.end(), bad).toMatch(/<\/a>.*<\/b>.*HTTP\/1\.1 400 /s)
    await cleanUp()
  }
})

test('an answer that breaks off while it waits behind another one ends the connection, behind that one', async () => {
  const size = 8_000_000
  const { port, cluster, instance } = await openRawGatewayFixture((socket, _seen, count) => {
    if (count === 1) {
      socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${size}\r\n\r\n`)
      socket.write(Buffer.alloc(size, 'y'))
      return
    }
    const begin = 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n'
    socket.write(begin, () => setImmediate(() => socket.resetAndDestroy()))
  })
  const wire = await connectRaw(port)
  wire.socket.pause()
  const request = 'GET /calc/ HTTP/1.1\r\nHost: x\r\n\r\n'
  wire.socket.write(request + request)
  // The second one has failed. The first one has not left: nobody reads it.
  await waitUntil(() => instance.seen.length === 2 && cluster.inFlight === 1)
  wire.socket.resume()
  const text = await wire.end()
  expect(text.slice(0, text.indexOf('\r\n\r\n') + 4 + size)).toMatch(/y$/)
  expect(text).not.toMatch(/0\r\n\r\n$/)
})

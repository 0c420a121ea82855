/** Clients of HTTP/1.1 that end their half and wait for their answer, and those that are gone: by the gateway and the admin address. */
import { afterEach, describe, expect, test, vi } from 'vitest'
import { createGateway } from '../../src/gateway/index.ts'
import { Session } from '../../src/index.ts'
import { runEventLoop } from '../help.ts'
import { expectNothingLeft, isConnectedFrom } from '../leftovers.ts'
import {
  cleanUp,
  connectRaw,
  createLatch,
  type GatewayFixture,
  onCleanup,
  openGatewayFixture,
  type RawConnection,
  waitUntil,
} from './gateway-fixture.ts'

expectNothingLeft()

afterEach(async () => {
  vi.useRealTimers()
  await cleanUp()
})

const CONTINUE = 'HTTP/1.1 100 Continue\r\n\r\n'
const continues = ({ text }: RawConnection): number => text.split(CONTINUE).length - 1

/** Time is false from now on; the connection is half-closed when it is handed out. */
async function halfClosed(all: GatewayFixture, request: string): Promise<RawConnection> {
  await waitUntil(() => all.cluster.instances[0]?.state === 'ready')
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  const wire = await connectRaw(all.port, request)
  await waitUntil(() => all.cluster.inFlight === 1)
  wire.socket.end()
  await runEventLoop(20)
  return wire
}

async function seconds(count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    vi.advanceTimersByTime(1_000)
    await runEventLoop(10)
  }
}

describe('a client that ends its half', () => {
  test('gets its answer; 100 Continue not in the first seconds, and four times at the most', async () => {
    const go = createLatch()
    const all = await openGatewayFixture(async (_req, res) => {
      await go.promise
      res.end('whole')
    })
    const wire = await halfClosed(all, 'GET /calc HTTP/1.1\r\nHost: x\r\n\r\n')
    await seconds(2)
    expect(wire.text).toBe('')
    await seconds(3)
    await waitUntil(() => continues(wire) === 1)
    await seconds(600)
    expect(continues(wire)).toBe(4)
    expect(all.cluster.inFlight).toBe(1)
    go.open()
    expect(await wire.end()).toMatch(/HTTP\/1.1 200 OK.*\r\n\r\nwhole$/s)
  })

  test.each([
    ['HEAD', 'HEAD /calc HTTP/1.1\r\nHost: x\r\n\r\n'],
    ['HTTP/1.0', 'GET /calc HTTP/1.0\r\nHost: x\r\n\r\n'],
  ])('gets its answer and nothing else: %s', async (_name, request) => {
    const go = createLatch()
    const all = await openGatewayFixture(async (_req, res) => {
      await go.promise
      res.end('whole')
    })
    const wire = await halfClosed(all, request)
    await seconds(600)
    expect(wire.text).toBe('')
    expect(all.cluster.inFlight).toBe(1)
    go.open()
    expect(await wire.end()).toMatch(/^HTTP\/1.1 200 OK\r\n/)
  })

  test('gets the rest of an answer that pauses, once it has proven that it waits', async () => {
    const [head, rest] = [createLatch(), createLatch()]
    const all = await openGatewayFixture(async (_req, res) => {
      await head.promise
      res.write('first ')
      await rest.promise
      res.end('second')
    })
    const wire = await halfClosed(all, 'GET /calc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
    await seconds(5)
    head.open()
    await wire.match('first ')
    await seconds(100)
    rest.open()
    expect(await wire.end()).toMatch(/first .*second/s)
  })

  test('and is gone is found: before the head by 100 Continue, in a silent answer by its silence', async () => {
    const all = await openGatewayFixture((req, res) => {
      if (req.url === '/begun') res.write('abc')
    })
    for (const path of ['/calc/silent', '/calc/begun']) {
      const wire = await halfClosed(all, `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`)
      if (path === '/calc/begun') await wire.match('abc')
      wire.socket.destroy()
      for (let i = 0; i < 10 && all.cluster.inFlight > 0; i++) await seconds(1)
      await waitUntil(() => all.cluster.inFlight === 0)
      vi.useRealTimers()
    }
  })
})

describe('the admin address', () => {
  async function admin(): Promise<{ readonly port: number }> {
    const session = new Session()
    const gateway = await createGateway(session, {
      listen: '127.0.0.1:0',
      admin: { listen: '127.0.0.1:0' },
    })
    onCleanup(async () => {
      vi.useRealTimers()
      await gateway.close()
      await session.close()
    })
    return { port: Number(new URL(gateway.adminUrl ?? '').port) }
  }

  test('answers a client that has ended its half, whole', async () => {
    const { port } = await admin()
    const wire = await connectRaw(port)
    wire.socket.end('GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n')
    const text = await wire.end()
    const length = Number(/content-length: (\d+)/i.exec(text)?.[1])
    expect(text.length - text.indexOf('\r\n\r\n') - 4).toBe(length)
  })

  test('lets go of a reader of events that is gone', async () => {
    const { port } = await admin()
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] })
    const wire = await connectRaw(port, 'GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n')
    await wire.match('200 OK')
    const { localPort } = wire.socket
    expect(isConnectedFrom(localPort)).toBe(true)
    wire.socket.destroy()
    await waitUntil(async () => {
      await seconds(1)
      return !isConnectedFrom(localPort)
    })
  })
})

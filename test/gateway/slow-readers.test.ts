/** Clients that do not read what is written to them, and those that read slowly or have nothing to read. */
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { type ClientHttp2Stream, connect } from 'node:http2'
import { connect as dialTcp, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as dialTls } from 'node:tls'
import { afterAll, afterEach, describe, expect, test, vi } from 'vitest'
import type { NodeHandler, Upgrade } from '../../providers/testing/index.ts'
import { certificate } from '../fakes/certificate.ts'
import { runEventLoop } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'
import { startByteRelay } from './byte-relay.ts'
import {
  advanceUntil,
  cleanUp,
  type GatewayFixture,
  type GatewayFixtureOptions,
  onCleanup,
  openGatewayFixture,
  waitUntil,
} from './gateway-fixture.ts'

expectNothingLeft()

afterEach(async () => {
  vi.useRealTimers()
  await cleanUp()
})

const folder = mkdtempSync(join(tmpdir(), 'manyhost-slow-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const tls = certificate(folder, 'one')

/** More than the kernel takes for a client that does not read. */
const MUCH = 30_000_000

const much: NodeHandler = (req, res) => {
  if (req.url === '/silent') return void res.write('abc')
  if (req.url === '/held') return void res.end(Buffer.alloc(1_000_000))
  let left = MUCH
  const more = (): void => {
    while (left > 0) {
      left -= 65_536
      if (!res.write(Buffer.alloc(65_536))) return void res.once('drain', more)
    }
    res.end()
  }
  more()
}
const talks: Upgrade = (_req, socket) => {
  socket.on('error', () => undefined)
  socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n')
  const more = (): void => {
    while (socket.write(Buffer.alloc(65_536)));
    socket.once('drain', more)
  }
  more()
}

/** From now on time is false: what is slow is told by looks, one a second. */
async function begin(options: GatewayFixtureOptions = {}): Promise<GatewayFixture> {
  const all = await openGatewayFixture(much, { provider: { upgrade: talks }, ...options })
  await waitUntil(() => all.cluster.instances[0]?.state === 'ready')
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] })
  return all
}

async function dial(port: number, isTls: boolean, text: string): Promise<Socket> {
  const socket = isTls
    ? dialTls({ port, host: '127.0.0.1', rejectUnauthorized: false })
    : dialTcp({ port, host: '127.0.0.1' })
  socket.on('error', () => undefined).pause()
  onCleanup(async () => socket.destroy())
  await once(socket, isTls ? 'secureConnect' : 'connect')
  socket.write(text)
  return socket
}

const get = (path: string, more = ''): string =>
  `GET /calc/${path} HTTP/1.1\r\nHost: x\r\n${more}\r\n`

/** Lets seconds pass; sockets move between them. */
async function seconds(count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    await runEventLoop(30)
    vi.advanceTimersByTime(1_000)
  }
}

describe('a client that does not read gives its slot back', () => {
  test.each([
    ['HTTP/1.1', false, ''],
    ['HTTP/1.1 over TLS', true, ''],
    ['a tunnel', false, 'Connection: Upgrade\r\nUpgrade: x\r\n'],
    ['a tunnel over TLS', true, 'Connection: Upgrade\r\nUpgrade: x\r\n'],
  ])('%s', async (_name, isTls, more) => {
    const { port, cluster } = await begin({ gateway: isTls ? { tls } : {} })
    await dial(port, isTls, get('much', more))
    await waitUntil(() => cluster.inFlight === 1)
    await advanceUntil(1_000, () => cluster.inFlight === 0)
  })

  test.each(['the stream', 'the connection'])('HTTP/2, %s', async (what) => {
    const { port, cluster } = await begin()
    const relay = await startByteRelay(port)
    const initialWindowSize = what === 'the connection' ? 2 ** 31 - 1 : 65_535
    const client = connect(`http://127.0.0.1:${relay.port}`, { settings: { initialWindowSize } })
    client.on('error', () => undefined)
    onCleanup(async () => client.destroy())
    await once(client, 'remoteSettings')
    client.setLocalWindowSize(2 ** 31 - 1)
    const ask = (path: string): ClientHttp2Stream =>
      client.request({ ':authority': 'x', ':path': path }).on('error', () => undefined)
    const other = ask('/calc/silent')
    await once(other, 'response')
    ask('/calc/much')
    if (what === 'the connection') relay.leave('frozen')
    await waitUntil(() => cluster.inFlight === 2)
    // One stream that is not read is no fault of the others.
    const left = what === 'the connection' ? 0 : 1
    await advanceUntil(1_000, () => cluster.inFlight === left)
    if (left === 1) expect(other.destroyed).toBe(false)
  })

  test('answerRate: 0 lets it', async () => {
    const { port, cluster } = await begin({ gateway: { answerRate: 0 } })
    await dial(port, false, get('much'))
    await waitUntil(() => cluster.inFlight === 1)
    await seconds(60)
    expect(cluster.inFlight).toBe(1)
  })

  test('a change of answerRate counts for connections that are open', async () => {
    const { port, cluster, gateway } = await begin({ gateway: { answerRate: 0 } })
    await dial(port, false, get('much'))
    await waitUntil(() => cluster.inFlight === 1)
    await seconds(20)
    expect(gateway.update({ listen: '127.0.0.1:0', drainTimeout: 50 })).toEqual([])
    await advanceUntil(1_000, () => cluster.inFlight === 0)
  })
})

describe('a client is not cut off', () => {
  test.each([false, true])('that has nothing to read, TLS %s', async (isTls) => {
    const { port, cluster } = await begin({ gateway: isTls ? { tls } : {} })
    await dial(port, isTls, get('silent'))
    await waitUntil(() => cluster.inFlight === 1)
    await seconds(60)
    expect(cluster.inFlight).toBe(1)
  })

  test.each([false, true])('that reads slowly, TLS %s', async (isTls) => {
    const { port } = await begin({ gateway: isTls ? { tls } : {} })
    const socket = await dial(port, isTls, get('much', 'Connection: close\r\n'))
    let received = 0
    let isOver = false
    socket.on('end', () => {
      isOver = true
    })
    socket.on('data', (chunk: Buffer) => {
      received += chunk.length
      if (received % 7 === 0) socket.pause()
    })
    while (!isOver && !socket.destroyed) {
      socket.resume()
      await seconds(1)
    }
    expect(received).toBeGreaterThan(MUCH)
  })
})

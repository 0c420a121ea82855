/** Tunnels of which one side ends: the other one goes on, and not for ever. Over HTTP/1.1 and HTTP/2. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:http2'
import { type AddressInfo, createServer, Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { fixed } from '../../providers/static.ts'
import type { Cluster } from '../../src/cluster/cluster.ts'
import { chooseLinger } from '../../src/gateway/tunnel.ts'
import { runEventLoop } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'
import { cleanUp, connectRaw, onCleanup, openGatewayFixture, waitUntil } from './gateway-fixture.ts'

expectNothingLeft()

afterEach(async () => {
  vi.useRealTimers()
  await cleanUp()
})

interface Tunnel {
  readonly client: Duplex
  /** The end of the instance. */
  readonly instance: Socket
  readonly cluster: Cluster
}

/** An instance that agrees to whatever it is asked for, and leaves the tunnel to the test. */
async function tunnel(version: 1 | 2, tunnelLinger = 60_000): Promise<Tunnel> {
  let take: (socket: Socket) => void = () => undefined
  const taken = new Promise<Socket>((resolve) => {
    take = resolve
  })
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    onCleanup(async () => socket.destroy())
    socket.on('error', () => undefined)
    socket.once('end', () => socket.listenerCount('data') === 1 && socket.end())
    socket.once('data', (chunk) => {
      const key = /sec-websocket-key: (.*)\r\n/i.exec(String(chunk))?.[1]
      const text = `${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`
      const proof = createHash('sha1').update(text).digest('base64')
      socket.removeAllListeners('end')
      socket.write(
        `HTTP/1.1 101 Ok\r\nConnection: Upgrade\r\nUpgrade: ${version === 1 ? 'x' : 'websocket'}\r\nSec-WebSocket-Accept: ${proof}\r\n\r\n`,
      )
      take(socket)
    })
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port: at } = server.address() as AddressInfo
  const { port, url, session } = await openGatewayFixture(undefined, { gateway: { tunnelLinger } })
  onCleanup(async () => server.close())
  const cluster = session.startup({
    url: 'http://raw',
    provider: fixed({ urls: [`http://127.0.0.1:${at}`] }),
  })
  await waitUntil(() => cluster.instances[0]?.state === 'ready')
  if (version === 1) {
    const ask = 'GET /raw HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n'
    const wire = await connectRaw(port, ask)
    await wire.match('\r\n\r\n')
    return { client: wire.socket, instance: await taken, cluster }
  }
  const client = connect(url)
  client.on('error', () => undefined)
  onCleanup(async () => client.destroy())
  await once(client, 'remoteSettings')
  const stream = client.request({
    ':method': 'CONNECT',
    ':protocol': 'websocket',
    ':scheme': 'http',
    ':path': '/raw',
    ':authority': 'x',
  })
  stream.on('error', () => undefined)
  await once(stream, 'response')
  return { client: stream, instance: await taken, cluster }
}

function textOf(from: Duplex): { text: string; isOver: boolean } {
  const read = { text: '', isOver: false }
  from.on('data', (chunk) => {
    read.text += chunk
  })
  for (const event of ['end', 'close']) {
    from.on(event, () => {
      read.isOver = true
    })
  }
  return read
}

const LATE = 'x'.repeat(1_000_000)

describe.each([1, 2] as const)('HTTP/%i', (version) => {
  test.each(['client', 'instance'] as const)(
    'what the other side sends after the end of the %s arrives',
    async (first) => {
      const { client, instance, cluster } = await tunnel(version)
      const [one, other] = first === 'client' ? [client, instance] : [instance, client]
      const [atOne, atOther] = [textOf(one), textOf(other)]
      one.end('begun')
      await waitUntil(() => atOther.isOver)
      expect(atOther.text).toBe('begun')
      for (const part of ['a', 'b', 'c']) {
        other.write(part)
        await waitUntil(() => atOne.text.endsWith(part))
      }
      other.end(`${LATE}bye`)
      await waitUntil(() => atOne.isOver)
      expect(atOne.text).toBe(`abc${LATE}bye`)
      await waitUntil(() => cluster.inFlight === 0)
    },
  )

  test.each(['client', 'instance'] as const)(
    'both are closed when the %s has ended and nothing comes for `tunnelLinger`, and not while something does',
    async (first) => {
      vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
      const linger = version === 1 ? 10_000 : 5_000
      const { client, instance, cluster } = await tunnel(version, 10_000)
      const [one, other] = first === 'client' ? [client, instance] : [instance, client]
      const [atOne, atOther] = [textOf(one), textOf(other)]
      one.end()
      await waitUntil(() => atOther.isOver)
      for (let count = 1; count <= 5; count++) {
        vi.advanceTimersByTime(linger * 0.9)
        await runEventLoop(5)
        expect(cluster.inFlight).toBe(1)
        other.write('.')
        await waitUntil(() => atOne.text.length === count)
      }
      await vi.advanceTimersByTimeAsync(linger)
      await waitUntil(() => cluster.inFlight === 0)
      // A client that has ended its half sees the gateway close the other one.
      if (first === 'client') await waitUntil(() => atOne.isOver)
    },
  )

  test.each(['client', 'instance'] as const)('a break by the %s ends the other', async (first) => {
    const { client, instance, cluster } = await tunnel(version)
    const [one, other] = first === 'client' ? [client, instance] : [instance, client]
    const seen = textOf(other)
    other.on('error', () => {
      seen.isOver = true
    })
    if (one instanceof Socket) one.resetAndDestroy()
    else one.destroy()
    await waitUntil(() => cluster.inFlight === 0 && seen.isOver)
  })
})

test('a stream that is ended and reset at once leaves nothing, at any moment between', async () => {
  for (let round = 0; round < 20; round++) {
    const { client, instance, cluster } = await tunnel(2)
    instance.resume()
    client.end()
    await runEventLoop(round)
    ;(client as unknown as { close(code: number): void }).close(8)
    await waitUntil(() => cluster.inFlight === 0)
    await waitUntil(() => instance.readableEnded)
    await cleanUp()
  }
})

test('WebSockets have at most 5 s, other protocols what was given', () => {
  expect(chooseLinger('websocket', 60_000)).toBe(5_000)
  expect(chooseLinger(' WebSocket', 60_000)).toBe(5_000)
  expect(chooseLinger('websocket', 100)).toBe(100)
  for (const protocol of ['x', 'websocket2', undefined]) {
    expect(chooseLinger(protocol, 60_000)).toBe(60_000)
  }
})

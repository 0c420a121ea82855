import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { fixed } from '../../providers/static.ts'
import type { Upgrade } from '../../providers/testing/index.ts'
import { expectNothingLeft } from '../leftovers.ts'
import {
  cleanUp,
  connectRaw,
  type GatewayFixture,
  onCleanup,
  openGatewayFixture,
  sendRaw,
  waitUntil,
} from './gateway-fixture.ts'

expectNothingLeft()

afterEach(cleanUp)

const sockets = new WebSocketServer({ noServer: true })
const accept: Upgrade = (req, socket, head) =>
  sockets.handleUpgrade(req, socket, head, (ws) => {
    ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary }))
  })

const sure = (upgrade: Upgrade = accept, service = {}): Promise<GatewayFixture> =>
  openGatewayFixture((_req, res) => res.writeHead(200, { 'content-length': 2 }).end('no'), {
    provider: { upgrade },
    service: { concurrency: 1, ...service },
  })

async function open(port: number): Promise<WebSocket> {
  const ws = new WebSocket(`ws://127.0.0.1:${port}/calc/chat`)
  onCleanup(async () => ws.terminate())
  await once(ws, 'open')
  return ws
}

test('a WebSocket is a tunnel to one instance and holds its place until it closes', async () => {
  const { port, cluster } = await sure()
  const ws = await open(port)
  for (const text of ['hello', 'x'.repeat(300_000)]) {
    ws.send(text)
    expect(String((await once(ws, 'message'))[0])).toBe(text)
  }
  expect(cluster.inFlight).toBe(1)
  ws.close()
  await once(ws, 'close')
  await waitUntil(() => cluster.inFlight === 0)
})

test('a client that ends its half of a tunnel first gets all that the instance still says', async () => {
  const late = 'x'.repeat(1_000_000)
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    // The provider looks whether somebody listens, and says nothing on that connection.
    const onUnused = (): void => void socket.end()
    socket.once('end', onUnused)
    socket.once('data', () => {
      socket.off('end', onUnused)
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n')
      socket.resume().on('end', () => socket.end(`${late}bye`))
    })
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  onCleanup(async () => server.close())
  const { port: at } = server.address() as AddressInfo
  const provider = fixed({ urls: [`http://127.0.0.1:${at}`] })
  const { port, session } = await openGatewayFixture()
  session.startup({ url: 'http://raw', provider })
  const wire = await connectRaw(port, UPGRADE.replace('/calc', '/raw'))
  await wire.match('101 Switching')
  wire.socket.end()
  expect(await wire.end()).toMatch(/x{1000}bye$/)
  expect(wire.text.length).toBeGreaterThan(late.length)
  expect(wire.error).toBeUndefined()
  await waitUntil(() => session.cluster('http://raw').inFlight === 0)
})

test('the death of the instance closes the client', async () => {
  const { port, provider } = await sure()
  const ws = await open(port)
  ws.on('error', () => undefined)
  provider.instances[0]?.kill()
  await once(ws, 'close')
})

test('a client that is gone frees the place', async () => {
  const { port, cluster } = await sure()
  const ws = await open(port)
  ws.terminate()
  await waitUntil(() => cluster.inFlight === 0)
})

test('a client that is gone while it waits leaves the queue', async () => {
  const { port, cluster } = await sure(accept, { initSize: 0 })
  const ws = new WebSocket(`ws://127.0.0.1:${port}/calc/chat`)
  ws.on('error', () => undefined)
  await waitUntil(() => cluster.requestQueue.size === 1)
  ws.terminate()
  await waitUntil(() => cluster.requestQueue.size === 0)
  const wire = await connectRaw(port, UPGRADE)
  await waitUntil(() => cluster.requestQueue.size === 1)
  wire.socket.end()
  await waitUntil(() => cluster.requestQueue.size === 0)
})

const UPGRADE =
  'GET /calc HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n' +
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'

test('an upgrade that the instance does not take is answered like any request', async () => {
  const { port, cluster } = await openGatewayFixture((_req, res) => res.end('x'.repeat(300_000)))
  const text = await sendRaw(port, UPGRADE)
  expect(text).toMatch(/^HTTP\/1.1 200 .*x{1000}/s)
  expect(text.length).toBeGreaterThan(300_000)
  await waitUntil(() => cluster.inFlight === 0)
  const no = await sure((_req, socket) => {
    socket.on('error', () => undefined)
    socket.end('HTTP/1.1 403 No\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno')
  })
  expect(await sendRaw(no.port, UPGRADE)).toMatch(/^HTTP\/1.1 403 No.*no$/s)
})

test('a bad upgrade and one to nowhere are problems', async () => {
  const { port } = await sure()
  expect(await sendRaw(port, UPGRADE.replace('/calc', '/no'))).toMatch(/^HTTP\/1.1 404 /)
  expect(await sendRaw(port, UPGRADE.replace('Host: x', 'Host: x,y'))).toMatch(/^HTTP\/1.1 400 /)
})

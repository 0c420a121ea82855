/** WebSockets over HTTP/2 (RFC 8441), to instances that know the old way only. */
import { once } from 'node:events'
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2'
import { afterEach, expect, test } from 'vitest'
import { WebSocketServer } from 'ws'
import type { Upgrade } from '../../providers/testing/index.ts'
import { expectNothingLeft } from '../leftovers.ts'
import {
  cleanUp,
  type GatewayFixture,
  type GatewayFixtureOptions,
  onCleanup,
  openGatewayFixture,
  waitUntil,
} from './gateway-fixture.ts'

expectNothingLeft()

afterEach(cleanUp)

const sockets = new WebSocketServer({ noServer: true, handleProtocols: () => 'chat' })
const accept: Upgrade = (req, socket, head) =>
  sockets.handleUpgrade(req, socket, head, (ws) => {
    ws.on('message', (data) => ws.send(data, { binary: false }))
  })

const sure = (
  upgrade: Upgrade = accept,
  more: GatewayFixtureOptions = {},
): Promise<GatewayFixture> =>
  openGatewayFixture((_req, res) => res.end('no'), { provider: { upgrade }, ...more })

async function open(url: string): Promise<ClientHttp2Session> {
  const session = connect(url)
  session.on('error', () => undefined)
  onCleanup(async () => session.destroy())
  const [settings] = await once(session, 'remoteSettings')
  expect(settings.enableConnectProtocol).toBe(true)
  return session
}

function ask(session: ClientHttp2Session, more = {}): ClientHttp2Stream {
  return session.request({
    ':method': 'CONNECT',
    ':protocol': 'websocket',
    ':scheme': 'http',
    ':path': '/calc/chat',
    ':authority': 'x',
    'sec-websocket-version': '13',
    'sec-websocket-protocol': 'chat',
    ...more,
  })
}

const head = async (stream: ClientHttp2Stream) => (await once(stream, 'response'))[0]

test('a WebSocket is a tunnel to one instance and holds its place until it closes', async () => {
  const { url, cluster } = await sure()
  const stream = ask(await open(url))
  const answer = await head(stream)
  expect(answer).toMatchObject({ ':status': 200, 'sec-websocket-protocol': 'chat' })
  for (const name of ['sec-websocket-accept', 'connection', 'upgrade']) {
    expect(answer).not.toHaveProperty(name)
  }
  expect(cluster.inFlight).toBe(1)
  // Text frames, the client's masked by zeros.
  stream.write(Buffer.from([0x81, 0x82, 0, 0, 0, 0, ...Buffer.from('hi')]))
  let said = ''
  stream.setEncoding('latin1').on('data', (chunk) => {
    said += chunk
  })
  await waitUntil(() => said === '\x81\x02hi')
  // A close frame is answered with one, and then both ends end.
  stream.write(Buffer.from([0x88, 0x80, 0, 0, 0, 0]))
  await once(stream, 'end')
  stream.end()
  await waitUntil(() => cluster.inFlight === 0)
  expect(cluster.stats()).toMatchObject({ arrivals: 1, failures: 0 })
})

test('a client that is gone frees the place, in the queue and in the tunnel', async () => {
  const { url, cluster, session } = await sure(accept, { service: { initSize: 0 } })
  const client = await open(url)
  const waiting = ask(client).on('error', () => undefined)
  await waitUntil(() => cluster.requestQueue.size === 1)
  waiting.close(8)
  await waitUntil(() => cluster.requestQueue.size === 0)
  session.setSize('http://calc', 1)
  const stream = ask(client).on('error', () => undefined)
  await head(stream)
  expect(cluster.inFlight).toBe(1)
  stream.close(8)
  await waitUntil(() => cluster.inFlight === 0)
})

test('the death of the instance ends the stream', async () => {
  const { url, provider } = await sure()
  const stream = ask(await open(url)).on('error', () => undefined)
  await head(stream)
  provider.instances[0]?.kill()
  await once(stream, 'close')
})

test('a no is passed on; a yes that is none, or is not proven, is a 502', async () => {
  const says =
    (text: string): Upgrade =>
    (_req, socket) => {
      socket.on('error', () => undefined)
      socket.end(`HTTP/1.1 ${text}\r\n\r\n`)
    }
  const once502 = { service: { maxAttempts: 1 } }
  for (const [text, status] of [
    ['403 No\r\ncontent-length: 0', 403],
    ['200 Ok\r\ncontent-length: 2\r\n\r\nno', 502],
    ['101 Ok\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x', 502],
    ['101 Ok\r\nconnection: upgrade\r\nupgrade: websocket', 502],
  ] as const) {
    const { url, cluster } = await sure(says(text), once502)
    const stream = ask(await open(url))
    expect((await head(stream))[':status'], text).toBe(status)
    const body = Buffer.concat(await stream.toArray()).toString()
    expect(/"code":"(\w+)"/.exec(body)?.[1]).toBe(
      status === 502 ? 'MANYHOST_BAD_RESPONSE' : undefined,
    )
    await waitUntil(() => cluster.inFlight === 0)
  }
})

test('a plain CONNECT and other protocols are refused, and so is who may not ask', async () => {
  const services = { 'http://calc': { auth: { bearer: ['t0ken'] } } }
  const { url, provider } = await sure(accept, { gateway: { services } })
  const client = await open(url)
  const status = async (stream: ClientHttp2Stream) => (await head(stream))[':status']
  const plain = client.request({ ':method': 'CONNECT', ':authority': 'calc:80' })
  expect(await status(plain)).toBe(405)
  expect(await status(ask(client, { ':protocol': 'connect-udp' }))).toBe(501)
  expect(await status(ask(client))).toBe(401)
  expect(await status(ask(client, { ':path': '/nowhere' }))).toBe(404)
  expect(provider.instances[0]?.requests ?? 0).toBe(0)
  expect(await status(ask(client, { authorization: 'Bearer t0ken' }))).toBe(200)
})

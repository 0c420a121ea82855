/** Clients that go away: each kind of connection, each way to go, each moment. Nothing of them is left. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2'
import { connect as dialTcp, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect as dialTls } from 'node:tls'
import { afterAll, afterEach, describe, expect, test, vi } from 'vitest'
import type { NodeHandler, Upgrade } from '../../providers/testing/index.ts'
import { certificate } from '../fakes/certificate.ts'
import { runEventLoop } from '../help.ts'
import { expectNothingLeft, isConnectedFrom } from '../leftovers.ts'
import { type ByteRelay, type Departure, startByteRelay, waitUntilClosed } from './byte-relay.ts'
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

const folder = mkdtempSync(join(tmpdir(), 'manyhost-gone-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const tls = certificate(folder, 'one')

/** Answers nothing but the head of `/begun`. */
const silent: NodeHandler = (req, res) => {
  req.resume()
  if (req.url === '/begun') res.write('abc')
}
/** Agrees, and then says nothing and keeps its end open. */
const agrees: Upgrade = (req, socket) => {
  const key = `${req.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`
  const proof = createHash('sha1').update(key).digest('base64')
  const yes = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n'
  socket.on('error', () => undefined).resume()
  socket.write(`${yes}Sec-WebSocket-Accept: ${proof}\r\n\r\n`)
  onCleanup(async () => socket.destroy())
}

interface Kind {
  readonly name: string
  readonly isTls: boolean
  readonly isTwo: boolean
}

const KINDS: readonly Kind[] = [false, true].flatMap((isTls) =>
  [false, true].map((isTwo) => ({
    name: `${isTwo ? 'HTTP/2' : 'HTTP/1.1'}${isTls ? ' over TLS' : ''}`,
    isTls,
    isTwo,
  })),
)

const begin = (isTls: boolean, options: GatewayFixtureOptions = {}): Promise<GatewayFixture> =>
  openGatewayFixture(silent, {
    provider: { upgrade: agrees },
    ...options,
    gateway: { ...(isTls && { tls }), ...options.gateway },
  })

/** A connection through the relay, in bytes. */
async function raw({ port }: ByteRelay, { isTls, isTwo }: Kind): Promise<Socket> {
  const ALPNProtocols = [isTwo ? 'h2' : 'http/1.1']
  const socket = isTls
    ? dialTls({ port, host: '127.0.0.1', rejectUnauthorized: false, ALPNProtocols })
    : dialTcp({ port, host: '127.0.0.1' })
  socket.on('error', () => undefined).resume()
  socket.on('session', () => tickets.add(socket))
  onCleanup(async () => socket.destroy())
  await once(socket, isTls ? 'secureConnect' : 'connect')
  return socket
}

async function sessionOn(relay: ByteRelay, kind: Kind): Promise<ClientHttp2Session> {
  const socket = await raw(relay, kind)
  socket.pause()
  const url = `http${kind.isTls ? 's' : ''}://calc`
  const session = connect(url, { createConnection: () => socket })
  session.on('error', () => undefined)
  onCleanup(async () => session.destroy())
  await once(session, 'remoteSettings')
  return session
}

const tickets = new WeakSet<Socket>()
async function ticketOf(socket: Socket): Promise<void> {
  await waitUntil(() => tickets.has(socket), 'the ticket comes')
}

type Moment = 'queue' | 'body' | 'asked' | 'answer' | 'tunnel'

/** Has one request in that moment of its life. */
async function ask(
  relay: ByteRelay,
  kind: Kind,
  moment: Moment,
  { cluster }: GatewayFixture,
): Promise<void> {
  const path = moment === 'answer' ? '/begun' : '/x'
  if (kind.isTwo) {
    const session = await sessionOn(relay, kind)
    const stream: ClientHttp2Stream = session.request(
      {
        ':authority': 'calc',
        ':path': path,
        ...(moment === 'body' && { ':method': 'POST' }),
        ...(moment === 'tunnel' && {
          ':method': 'CONNECT',
          ':protocol': 'websocket',
          ':scheme': 'http',
        }),
      },
      { endStream: moment !== 'body' && moment !== 'tunnel' },
    )
    stream.on('error', () => undefined).resume()
    if (moment === 'body') stream.write('abc')
    if (moment === 'answer' || moment === 'tunnel') await once(stream, 'response')
  } else {
    const socket = await raw(relay, kind)
    const more = {
      queue: '',
      body: 'Transfer-Encoding: chunked\r\n',
      asked: '',
      answer: '',
      tunnel: 'Connection: Upgrade\r\nUpgrade: websocket\r\n',
    }[moment]
    const method = moment === 'body' ? 'POST' : 'GET'
    socket.write(`${method} ${path} HTTP/1.1\r\nHost: calc\r\n${more}\r\n`)
    if (moment === 'body') socket.write('3\r\nabc\r\n')
    if (moment === 'answer' || moment === 'tunnel') await once(socket, 'data')
  }
  if (moment === 'queue') await waitUntil(() => cluster.requestQueue.size === 1)
  else await waitUntil(() => cluster.inFlight === 1)
}

describe.each(KINDS)('$name', (kind) => {
  const moments: Moment[] = ['queue', 'body', 'asked', 'answer', 'tunnel']
  // HTTP/1.1 may be half-closed by a client that waits for its answer.
  const ways: Departure[] = [kind.isTwo ? 'FIN' : 'close', 'RST']
  test.each(moments.flatMap((moment) => ways.map((way) => ({ moment, way }))))(
    'a client that goes by $way frees its place and its connection: $moment',
    async ({ moment, way }) => {
      const options: GatewayFixtureOptions = {
        service: { initSize: moment === 'queue' ? 0 : 1 },
        gateway: { tunnelLinger: 100 },
      }
      const all = await begin(kind.isTls, options)
      const relay = await startByteRelay(all.port)
      await ask(relay, kind, moment, all)
      relay.leave(way)
      await waitUntil(() => all.cluster.inFlight === 0 && all.cluster.requestQueue.isEmpty)
      await waitUntilClosed(relay)
    },
  )

  test.each(['FIN', 'RST'] as const)(
    'a client that goes by %s without a request, in the middle of a head, or idle leaves no connection',
    async (way) => {
      const { port } = await begin(kind.isTls)
      const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
      // HEADERS of 16 bytes, of which some come, after SETTINGS.
      const HEADERS = '\0\0\0\x04\0\0\0\0\0\0\0\x10\x01\x05\0\0\0\x01\x82'
      const texts = kind.isTwo
        ? ['', 'PRI', PREFACE, PREFACE + HEADERS]
        : ['', 'P', 'GET / HTTP/1.1\r\nHos', 'GET / HTTP/1.1\r\nHost: nowhere\r\n\r\n']
      for (const text of texts) {
        const relay = await startByteRelay(port)
        const socket = await raw(relay, kind)
        // Its ticket says that the server has the whole handshake, too.
        if (kind.isTls) await ticketOf(socket)
        await new Promise((resolve) => socket.write(text, 'latin1', resolve))
        relay.leave(way)
        await waitUntilClosed(relay)
      }
    },
  )
})

describe('a frozen client of HTTP/2', () => {
  test.each(['queue', 'body', 'asked', 'answer'] as const)(
    'is asked whether it lives, and cut off: %s',
    async (moment) => {
      const all = await begin(false, {
        service: { initSize: moment === 'queue' ? 0 : 1 },
        gateway: { bodyRate: 0 },
      })
      await waitUntil(() => moment === 'queue' || all.cluster.instances[0]?.state === 'ready')
      vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] })
      const relay = await startByteRelay(all.port)
      await ask(relay, KINDS[1] as Kind, moment, all)
      relay.leave('frozen')
      await advanceUntil(
        1_000,
        () => all.cluster.inFlight === 0 && all.cluster.requestQueue.isEmpty,
      )
    },
  )

  test('is let go when it is idle', async () => {
    const all = await begin(false, { gateway: { keepAlive: 50 } })
    const relay = await startByteRelay(all.port)
    await sessionOn(relay, KINDS[1] as Kind)
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    relay.leave('frozen')
    expect(isConnectedFrom(relay.upstreamPort)).toBe(true)
    await advanceUntil(1_000, () => !isConnectedFrom(relay.upstreamPort))
  })

  test('is not cut off while it answers', async () => {
    const all = await begin(false)
    await waitUntil(() => all.cluster.instances[0]?.state === 'ready')
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] })
    const relay = await startByteRelay(all.port)
    await ask(relay, KINDS[1] as Kind, 'asked', all)
    for (let i = 0; i < 200; i++) {
      vi.advanceTimersByTime(1_000)
      // Its answer to a PING takes a few turns.
      await runEventLoop(20)
    }
    expect(all.cluster.inFlight).toBe(1)
  })
})

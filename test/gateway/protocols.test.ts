/** Requests that ask for another protocol, or speak one: what is not served is ignored or refused, and nothing is lost. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from 'node:tls'
import { afterEach, describe, expect, onTestFinished, test } from 'vitest'
import { certificate } from '../fakes/certificate.ts'
import { createLatch } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'
import { cleanUp, connectRaw, openGatewayFixture, sendRaw, waitUntil } from './gateway-fixture.ts'
import {
  openRawGatewayFixture,
  parseResponses,
  type RawRequestSeen,
  sendHttp2Request,
} from './raw-instance.ts'

expectNothingLeft()

afterEach(cleanUp)

const OK = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok'
const SWITCH =
  'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello'
const KEY = 'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n'
const LAST = 'GET /calc/last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'

/** A request with an upgrade. */
function asking(upgrade: string, lines = '', body = '', version = '1.1'): string {
  const method = body === '' ? 'GET' : 'POST'
  return (
    `${method} /calc/up HTTP/${version}\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n` +
    `Upgrade: ${upgrade}\r\nHTTP2-Settings: AAMAAABk\r\n${KEY}${lines}\r\n${body}`
  )
}

const LENGTH = ['Content-Length: 3\r\n', 'abc'] as const
const CHUNKS = ['Transfer-Encoding: chunked\r\n', '3\r\nabc\r\n0\r\n\r\n'] as const
const NOT_SERVED = [
  'h2c',
  'H2C',
  'h2',
  'TLS/1.0',
  'TLS/1.2, HTTP/2.0',
  'HTTP/2.0',
  'h2c, TLS/1.0',
  'a b',
  ',',
]

/** The request with the upgrade first: several of one connection may reach the instance in any order. */
const upFirst = (one: RawRequestSeen): number => (one.head.includes(' /up ') ? -1 : 1)

describe('an upgrade to what is not served is ignored', () => {
  test.each(NOT_SERVED)('%s: with and without a body, the connection stays', async (upgrade) => {
    for (const [lines, body] of [['', ''], LENGTH, CHUNKS]) {
      const { port, instance, cluster } = await openRawGatewayFixture(OK)
      const text = await sendRaw(port, asking(upgrade, lines, body) + LAST)
      const all = parseResponses(text, ['GET', 'GET'])
      expect(all.map((answer) => answer.status)).toEqual([200, 200])
      const [up, last] = instance.seen.sort(upFirst)
      expect([up?.body, last?.body]).toEqual([body === '' ? '' : 'abc', ''])
      expect(up?.head).not.toMatch(/^(?:upgrade|http2-settings|connection: .*upgrade)/im)
      expect(last?.head).toContain('/last')
      await waitUntil(() => cluster.inFlight === 0)
      await cleanUp()
    }
  })

  test.each(['websocket', 'foo/1', 'h2c, websocket'])('%s with a body', async (upgrade) => {
    for (const [lines, body] of [LENGTH, CHUNKS]) {
      const { port, instance } = await openRawGatewayFixture(OK)
      const all = parseResponses(await sendRaw(port, asking(upgrade, lines, body) + LAST), [
        'POST',
        'GET',
      ])
      expect(all.map((answer) => answer.status)).toEqual([200, 200])
      const [up] = instance.seen.sort(upFirst)
      expect(up?.head).not.toMatch(/^upgrade/im)
      expect(up?.body).toBe('abc')
      await cleanUp()
    }
  })

  test.each(['websocket', 'h2c'])('of HTTP/1.0: %s', async (upgrade) => {
    const { port, instance } = await openRawGatewayFixture(OK)
    const all = parseResponses(await sendRaw(port, asking(upgrade, '', '', '1.0')), ['GET'])
    expect(all[0]).toMatchObject({ status: 200, body: 'ok' })
    expect(instance.seen[0]?.head).not.toMatch(/^upgrade/im)
  })

  test('a body that comes in pieces, or after 100 Continue, or with a half-close', async () => {
    const { port, instance } = await openRawGatewayFixture(OK)
    const slow = await connectRaw(port)
    for (const char of asking('h2c', ...LENGTH)) {
      slow.write(char)
      await new Promise((resolve) => setImmediate(resolve))
    }
    await slow.match(/ok$/)
    const expecting = await connectRaw(port, asking('h2c', `Expect: 100-continue\r\n${LENGTH[0]}`))
    await expecting.match('100 Continue\r\n\r\n')
    expecting.write('abc')
    await expecting.match(/ok$/)
    const half = await connectRaw(port, asking('h2c', ...LENGTH))
    half.socket.end()
    expect(await half.end()).toMatch(/ok$/)
    expect(instance.seen.map((seen) => seen.body)).toEqual(['abc', 'abc', 'abc'])
  })

  test('one connection may ask for it again and again', async () => {
    const { port, instance } = await openRawGatewayFixture(OK)
    const wire = await connectRaw(port)
    for (let round = 1; round <= 50; round++) {
      wire.write(asking('h2c', ...LENGTH))
      await waitUntil(() => wire.text.split('\r\n\r\nok').length === round + 1)
    }
    expect(instance.seen).toHaveLength(50)
    expect(wire.text).not.toContain('connection: close')
  })

  test('a head that only just fits is not too large the second time', async () => {
    const { port } = await openRawGatewayFixture(OK, { gateway: { headerSize: 2_048 } })
    for (let size = 1_400; size < 2_048; size += 36) {
      const lines = `X:${'a'.repeat(size)}\r\n${'Y:\r\n'.repeat(9)}`
      const text = asking('h2c', lines).replace('Upgrade, ', 'Upgrade, close, ')
      const plain = await sendRaw(port, text.replace('Upgrade: h2c', 'X-Grade: h2c'))
      const wire = await connectRaw(port, text)
      expect((await wire.end()).slice(0, 12), String(size)).toBe(plain.slice(0, 12))
    }
  })

  test('over TLS, and where HTTP/2 is off', async () => {
    const { port } = await openRawGatewayFixture(OK, { gateway: { http2: false } })
    expect(
      parseResponses(await sendRaw(port, asking('h2c', ...LENGTH) + LAST), ['POST', 'GET']),
    ).toHaveLength(2)
    const folder = mkdtempSync(join(tmpdir(), 'manyhost-tls-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    const secure = await openRawGatewayFixture(OK, { gateway: { tls: certificate(folder, 'one') } })
    const socket = connect({ port: secure.port, host: '127.0.0.1', rejectUnauthorized: false })
    socket.write(asking('h2c', ...LENGTH) + LAST)
    let text = ''
    for await (const chunk of socket) text += chunk
    expect(parseResponses(text, ['POST', 'GET'])).toHaveLength(2)
  })
})

describe('an upgrade that is served', () => {
  test.each(['websocket', 'h2c, websocket', 'TLS/1.0 , websocket', 'websocket, h2c'])(
    '%s: the instance is asked for what it may switch to',
    async (upgrade) => {
      const { port, instance, cluster } = await openRawGatewayFixture(SWITCH)
      const wire = await connectRaw(port, asking(upgrade))
      await wire.match(/^HTTP\/1.1 101 .*\r\n\r\nhello$/s)
      expect(instance.seen[0]?.head).toMatch(/^upgrade: websocket$/im)
      wire.socket.destroy()
      await waitUntil(() => cluster.inFlight === 0)
    },
  )

  test('its answer frames no body, and names the connection', async () => {
    const { port } = await openRawGatewayFixture(
      SWITCH.replace('\r\n\r\n', '\r\ncontent-length: 5\r\nx-a: b\r\n\r\n'),
    )
    const wire = await connectRaw(port, asking('websocket'))
    const head = (await wire.match('hello')).split('\r\n\r\n')[0] as string
    expect(head).not.toMatch(/content-length|transfer-encoding/i)
    expect(head).toMatch(/^connection: upgrade$/im)
    expect(head).toMatch(/^upgrade: websocket$/im)
    expect(head).toMatch(/^x-a: b$/im)
  })

  test('behind other requests it waits for their answers', async () => {
    const go = createLatch()
    const { port, cluster, instance } = await openRawGatewayFixture(async (socket, { head }) => {
      if (/^upgrade: websocket/im.test(head)) return void socket.write(SWITCH)
      await go.promise
      socket.write(OK)
    })
    const get = LAST.replace('Connection: close\r\n', '')
    const wire = await connectRaw(port, get + get + asking('websocket'))
    await waitUntil(() => instance.seen.length === 2)
    go.open()
    await wire.match(/ok.*ok.*101 Switching.*hello$/s)
    wire.socket.destroy()
    await waitUntil(() => cluster.inFlight === 0)
  })

  test.each(['h2c', 'websocket'])(
    'behind a request that ends the connection it is dropped: %s',
    async (upgrade) => {
      const { port, instance, cluster } = await openRawGatewayFixture((socket) =>
        setTimeout(() => socket.write(OK), 20),
      )
      const text = await sendRaw(port, LAST + asking(upgrade))
      expect(parseResponses(text, ['GET'])).toHaveLength(1)
      expect(instance.seen).toHaveLength(1)
      await waitUntil(() => cluster.inFlight === 0)
    },
  )

  test.each(['Upgrade: h2c', 'Upgrade: websocket', 'X-A: b'])(
    'long answers before it come whole: %s',
    async (line) => {
      const { port, cluster } = await openRawGatewayFixture((socket, { head }) => {
        if (/^upgrade: websocket/im.test(head)) return void socket.write(SWITCH)
        socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n')
        for (let count = 0; count < 40; count++) socket.write(`10000\r\n${'x'.repeat(65_536)}\r\n`)
        socket.write('0\r\n\r\n')
      })
      const get = LAST.replace('Connection: close\r\n', '')
      const behind = asking('h2c').replace('Upgrade: h2c', line)
      const wire = await connectRaw(port, get + get + behind)
      await waitUntil(() => wire.text.split('0\r\n\r\n').length >= 3)
      wire.socket.destroy()
      await waitUntil(() => cluster.inFlight === 0)
    },
  )

  test('CONNECT behind other requests is refused behind their answers', async () => {
    const { port } = await openRawGatewayFixture((socket) => setTimeout(() => socket.write(OK), 20))
    const get = LAST.replace('Connection: close\r\n', '')
    const text = await sendRaw(port, `${get}CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n`)
    expect(parseResponses(text, ['GET', 'CONNECT']).map(({ status }) => status)).toEqual([200, 405])
  })

  test.each(['h2c', 'websocket'])(
    'a client that goes while it waits leaves nothing: %s',
    async (upgrade) => {
      const { port, cluster, instance } = await openRawGatewayFixture(() => undefined)
      const get = LAST.replace('Connection: close\r\n', '')
      for (const how of ['destroy', 'resetAndDestroy'] as const) {
        const before = instance.seen.length
        const wire = await connectRaw(port, get + asking(upgrade))
        await waitUntil(() => instance.seen.length > before)
        wire.socket[how]()
        await waitUntil(() => cluster.inFlight === 0)
      }
      expect(instance.seen).toHaveLength(2)
    },
  )
})

describe('a request of another protocol is refused', () => {
  test.each([
    'ANNOUNCE / RTSP/1.0',
    'SETUP / RTSP/1.0',
    'DESCRIBE / RTSP/1.1',
    'FLUSH / RTSP/1.0',
    'GET / RTSP/1.0',
    'GET / RTSP/1.1',
    'GET / RTSP/2.0',
    'POST / RTSP/1.0',
    'OPTIONS * RTSP/1.0',
    '\r\nOPTIONS * RTSP/1.0',
    'SOURCE / ICE/1.0',
    'SOURCE / ICE/1.1',
    'GET / HTTP/2.0',
    'GET / HTTP/0.9',
    'GET /',
    'PUT / RTSP/1.0',
    'GET / HTCPCP/1.0',
  ])('%j', async (line) => {
    const { port, provider } = await openGatewayFixture()
    for (const host of ['Host: calc', 'host: calc']) {
      const text = await sendRaw(port, `${line}\r\n${host}\r\nCSeq: 1\r\n\r\n`)
      expect(text).toMatch(/^HTTP\/1.1 400 /)
      expect(text).toMatch(/\r\nconnection: close\r\n/i)
    }
    expect(provider.instances[0]?.requests ?? 0).toBe(0)
  })

  test('one whose body or path speaks of such a protocol is not', async () => {
    const { port } = await openGatewayFixture()
    const body = 'GET / RTSP/1.0\r\n\r\n'
    for (const version of ['1.0', '1.1']) {
      const text = await sendRaw(
        port,
        `POST /RTSP/1.0 HTTP/${version}\r\nHost: calc\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
      )
      expect(text).toMatch(/^HTTP\/1.1 200 /)
    }
    expect(await sendRaw(port, 'SOURCE / HTTP/1.0\r\nHost: calc\r\n\r\n')).toMatch(
      /^HTTP\/1.1 200 /,
    )
  })
})

describe('over HTTP/2, host and :authority', () => {
  test.each([
    ['N', 'n'],
    ['calc.Example', 'CALC.example'],
    ['n:80', 'n'],
    ['n', 'N:'],
    ['[::1]:80', '[::1]'],
  ])('may name the same in two ways: %s, %s', async (authority, host) => {
    const { url } = await openRawGatewayFixture(OK)
    const got = await sendHttp2Request(url, { ':authority': authority, host })
    expect(got.headers[':status']).toBe(200)
  })

  test.each([
    ['n', 'm'],
    ['n:80', 'n:81'],
    ['n', 'n:443'],
    ['n.', 'n.m'],
  ])('may not name two: %s, %s', async (authority, host) => {
    const { url, instance } = await openRawGatewayFixture(OK)
    const got = await sendHttp2Request(url, { ':authority': authority, host })
    expect(got.headers[':status']).toBe(400)
    expect(instance.seen).toHaveLength(0)
  })
})

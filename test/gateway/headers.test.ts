import { afterEach, describe, expect, test } from 'vitest'
import { countKnownNames } from '../../src/gateway/header-kinds.ts'
import { expectNothingLeft } from '../leftovers.ts'
import {
  cleanUp,
  type GatewayFixtureOptions,
  openGatewayFixture,
  sendRaw,
} from './gateway-fixture.ts'

expectNothingLeft()

afterEach(cleanUp)

type Seen = { headers: Record<string, string>; raw: string[]; answer: string }

async function ask(port: number, lines: string, target = '/x'): Promise<Seen> {
  const answer = await sendRaw(
    port,
    `GET ${target} HTTP/1.1\r\nHost: calc\r\n${lines}Connection: close\r\n\r\n`,
  )
  return { ...JSON.parse(/\{.*\}/s.exec(answer)?.[0] as string), answer }
}

describe('of requests', () => {
  test('those of one connection end here, and those that Connection names', async () => {
    const { port } = await openGatewayFixture()
    const { headers } = await ask(
      port,
      'Keep-Alive: 5\r\nTE: trailers\r\nProxy-Authorization: x\r\nProxy-Connection: y\r\nUpgrade: z\r\n' +
        'Connection: a, B,authorization ,x-request-id\r\nA: 1\r\nb: 2\r\nC: 3\r\nAuthorization: me\r\n',
    )
    for (const name of [
      'keep-alive',
      'te',
      'proxy-authorization',
      'proxy-connection',
      'upgrade',
      'a',
      'b',
    ]) {
      expect(headers[name], name).toBeUndefined()
    }
    expect(headers).toMatchObject({
      c: '3',
      authorization: 'me',
      host: 'calc',
      connection: 'keep-alive',
    })
  })

  test('repeated ones stay repeated, in order and in their case', async () => {
    const { port } = await openGatewayFixture()
    const { raw } = await ask(port, 'X-A: 1\r\nx-b: 2\r\nX-A: 3\r\n')
    const at = raw.indexOf('X-A')
    expect(raw.slice(at, at + 6)).toEqual(['X-A', '1', 'x-b', '2', 'X-A', '3'])
  })

  const LIES =
    'X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: bank\r\nX-Real-IP: 1.2.3.4\r\n' +
    'X-Forwarded-Port: 443\r\nForwarded: for=1.2.3.4\r\nVia: 1.0 before\r\n'

  test('the word of a client on its way is not taken', async () => {
    const { port } = await openGatewayFixture()
    const { headers } = await ask(port, LIES, '/calc/x')
    expect(headers).toMatchObject({
      'x-forwarded-for': '127.0.0.1',
      'x-forwarded-proto': 'http',
      'x-forwarded-host': 'calc',
      forwarded: 'for=127.0.0.1;proto=http;host="calc"',
      via: '1.0 before, 1.1 manyhost',
    })
    expect(headers['x-real-ip']).toBeUndefined()
    expect(headers['x-forwarded-port']).toBeUndefined()
  })

  test('that of a trusted proxy is', async () => {
    const { port } = await openGatewayFixture(undefined, {
      gateway: { trustedProxies: ['127.0.0.0/8'], via: 'gate' },
    })
    const { headers } = await ask(port, LIES)
    expect(headers).toMatchObject({
      'x-forwarded-for': '1.2.3.4, 127.0.0.1',
      'x-forwarded-proto': 'https',
      'x-forwarded-host': 'bank',
      'x-real-ip': '1.2.3.4',
      forwarded: 'for=1.2.3.4, for=127.0.0.1;proto=http;host="calc"',
      via: '1.0 before, 1.1 gate',
    })
  })

  test('with `forwarded: false` instances hear nothing of who asked, whoever says it', async () => {
    for (const trustedProxies of [[], ['127.0.0.0/8']]) {
      const { port } = await openGatewayFixture(undefined, {
        gateway: { forwarded: false, trustedProxies },
      })
      const { headers } = await ask(port, LIES, '/calc/x')
      const told = Object.keys(headers).filter((name) => /forwarded|real-ip/.test(name))
      expect(told).toEqual([])
      expect(headers.via).toBe('1.0 before, 1.1 manyhost')
      await cleanUp()
    }
  })

  test('what was taken off the path is told', async () => {
    const { port } = await openGatewayFixture()
    const text = await sendRaw(port, 'GET /calc/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
    expect(text).toContain('"x-forwarded-prefix":"/calc"')
  })

  test('an id is kept, or made; a bad one is replaced; the answer carries it', async () => {
    const { port } = await openGatewayFixture()
    const kept = await ask(port, 'X-Request-Id: abc\r\n')
    expect(kept.headers['x-request-id']).toBe('abc')
    expect(kept.answer).toMatch(/x-request-id: abc\r\n/i)
    for (const given of ['', `X-Request-Id: ${'a'.repeat(201)}\r\n`, 'X-Request-Id: a b\r\n']) {
      const made = await ask(port, given)
      expect(made.headers['x-request-id']).toMatch(/^[\w-]{8,40}$/)
      expect(made.answer).toContain(`x-request-id: ${made.headers['x-request-id']}\r\n`)
    }
  })

  test('ours are not for clients to send', async () => {
    const { port } = await openGatewayFixture()
    const { headers } = await ask(port, 'X-Manyhost-Attempt: 7\r\nX-MANYHOST-Return: 1\r\n')
    expect(headers['x-manyhost-attempt']).toBe('1')
    expect(headers['x-manyhost-return']).toBeUndefined()
  })

  test('names that clients make up are not remembered without end', async () => {
    const { port } = await openGatewayFixture()
    for (let round = 0; round < 20; round++) {
      const lines = Array.from({ length: 500 }, (_, i) => `x-${round}-${i}: 1\r\n`).join('')
      await ask(port, lines)
    }
    expect(countKnownNames()).toBeLessThanOrEqual(1_000)
  })
})

describe('of answers', () => {
  const answering = (headers: string[], options?: GatewayFixtureOptions) =>
    openGatewayFixture((_req, res) => {
      res.writeHead(200, headers)
      // As bytes: with a text, node:http would write its headers as UTF-8, too.
      res.end(Buffer.from('{}'))
    }, options)

  test('those of one connection end here, all others stay', async () => {
    const { port } = await answering([
      'X-Named',
      '1',
      'Connection',
      'x-named, close',
      'Keep-Alive',
      'timeout=1',
      'Proxy-Authenticate',
      'x',
      'Set-Cookie',
      'a=1',
      'Set-Cookie',
      'b=2',
      'X-Manyhost-Return',
      '0',
      'Via',
      '1.1 app',
      'X-Latin',
      '\xe4',
      'content-length',
      '2',
    ])
    const { answer } = await ask(port, '')
    expect(answer).toMatch(/set-cookie: a=1\r\nset-cookie: b=2\r\n/i)
    expect(answer).toMatch(/via: 1.1 app\r\n/i)
    expect(answer).toMatch(/via: 1.1 manyhost\r\n/)
    expect(answer).toContain('X-Latin: \xe4\r\n')
    for (const name of ['x-named', 'proxy-authenticate', 'x-manyhost-return', 'timeout=1']) {
      expect(answer.toLowerCase(), name).not.toContain(name)
    }
  })

  test("the gateway's word on cross-origin access replaces the instance's", async () => {
    const { port } = await answering(['Access-Control-Allow-Origin', '*'], {
      gateway: { services: { 'http://calc': { cors: { origins: ['https://a.example'] } } } },
    })
    const { answer } = await ask(port, 'Origin: https://a.example\r\n')
    expect(answer.match(/access-control-allow-origin: .*/gi)).toEqual([
      'access-control-allow-origin: https://a.example',
    ])
  })
})

import { request } from 'undici'
import { afterEach, describe, expect, test } from 'vitest'
import { expectNothingLeft } from '../leftovers.ts'
import {
  cleanUp,
  connectRaw,
  type GatewayFixture,
  openGatewayFixture,
  sendRaw,
  splitResponse,
} from './gateway-fixture.ts'

expectNothingLeft()

afterEach(cleanUp)

async function seen(port: number, target: string, host = 'x'): Promise<string> {
  const text = await sendRaw(
    port,
    `GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`,
  )
  const { status, body } = splitResponse(text)
  if (status !== 200) return String(status)
  return JSON.parse(/\{.*\}/s.exec(body)?.[0] ?? '{}').url
}

describe('which service', () => {
  test('by Host: name, any port, .localhost, listed names, in any case', async () => {
    const { port } = await openGatewayFixture(undefined, {
      gateway: { services: { 'http://calc': { hosts: ['calc.example.org', 'sums:81'] } } },
    })
    for (const host of [
      'calc',
      'CALC:8080',
      'calc.localhost:80',
      'Calc.Example.Org',
      'calc.example.org.',
      'sums:81',
    ]) {
      expect(await seen(port, '/a?b=c', host), host).toBe('/a?b=c')
    }
    for (const host of ['cal', 'sums', 'sums:82', 'localhost', 'calc.example.com']) {
      expect(await seen(port, '/a', host), host).toBe('404')
    }
  })

  test('by the first part of the path, taken off or kept', async () => {
    const { port, session } = await openGatewayFixture(undefined, {
      gateway: {
        services: {
          'http://kept': { strip: false },
          'http://named': { path: '/api' },
          'http://none': { path: false },
        },
      },
    })
    for (const name of ['kept', 'named', 'none']) session.startup({ url: `http://${name}` })
    expect(await seen(port, '/calc/a/b?c=d&c=e')).toBe('/a/b?c=d&c=e')
    expect(await seen(port, '/calc')).toBe('/')
    expect(await seen(port, '/calc?x')).toBe('/?x')
    expect(await seen(port, '/calculator')).toBe('404')
    expect(await seen(port, '/kept/a')).toBe('/kept/a')
    expect(await seen(port, '/api/a')).toBe('/a')
    expect(await seen(port, '/named/a')).toBe('404')
    expect(await seen(port, '/none/a')).toBe('404')
    expect(await seen(port, '/calc//../a/%2e%2E/b')).toBe('//../a/%2e%2E/b')
  })

  test('by several parts of the path: the longest counts, in whole parts; `/` takes what is left', async () => {
    const { port, session } = await openGatewayFixture(undefined, {
      gateway: {
        services: {
          'http://v1': { path: '/api/v1' },
          'http://deep': { path: '/api/v1/deep/' },
          'http://kept': { path: '/api/kept', strip: false },
          'http://api': { path: '/api' },
          'http://shop/v2': { path: '/shop/two' },
          'http://rest': { path: '/' },
        },
      },
    })
    for (const name of ['v1', 'deep', 'kept', 'api', 'shop/v2', 'rest']) {
      session.startup({ url: `http://${name}` })
    }
    const who = async (target: string): Promise<string> => {
      const text = await sendRaw(
        port,
        `GET ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
      )
      const { url, headers } = JSON.parse(/\{.*\}/s.exec(splitResponse(text).body)?.[0] ?? '{}')
      return `${headers.host} ${url}`
    }
    expect(await who('/api/v1/a?b')).toBe('v1 /a?b')
    expect(await who('/api/v1')).toBe('v1 /')
    expect(await who('/api/v1?b')).toBe('v1 /?b')
    expect(await who('/api/v1/deep/a')).toBe('deep /a')
    expect(await who('/api/v1/deeper')).toBe('v1 /deeper')
    expect(await who('/api/v10/a')).toBe('api /v10/a')
    expect(await who('/api/kept/a')).toBe('kept /api/kept/a')
    expect(await who('/api')).toBe('api /')
    expect(await who('/shop/two/a')).toBe('shop /v2/a')
    expect(await who('/calc/a')).toBe('calc /a')
    expect(await who('/')).toBe('rest /')
    expect(await who('/apis/v1')).toBe('rest /apis/v1')
    await session.remove('http://deep')
    expect(await who('/api/v1/deep/a')).toBe('v1 /deep/a')
  })

  test('services under paths of one host, each with its own door', async () => {
    const { port, session } = await openGatewayFixture(undefined, {
      gateway: {
        services: {
          'http://shop/v1': { auth: { bearer: ['s3cret'] } },
          'http://shop/v2': { path: '/two' },
        },
      },
    })
    session.startup({ url: 'http://shop/v1' })
    session.startup({ url: 'http://shop/v2' })
    expect(await seen(port, '/v1/x', 'shop')).toBe('401')
    expect(await seen(port, '/v2/x', 'shop')).toBe('/v2/x')
    expect(await seen(port, '/shop/v1/x')).toBe('401')
    expect(await seen(port, '/two/x')).toBe('/v2/x')
    expect(await seen(port, '/two')).toBe('/v2')
    expect(await seen(port, '/v3/x', 'shop')).toBe('404')
  })

  test('no service takes the name of another by listing it', async () => {
    const { port, session } = await openGatewayFixture(undefined, {
      gateway: { services: { 'http://thief': { hosts: ['calc', 'own'] } } },
    })
    session.startup({ url: 'http://thief' })
    const text = await sendRaw(port, 'GET / HTTP/1.1\r\nHost: calc\r\nConnection: close\r\n\r\n')
    expect(JSON.parse(/\{.*\}/s.exec(text)?.[0] ?? '').headers.host).toBe('calc')
  })

  test('services that come, change and go while it runs', async () => {
    const { port, session } = await openGatewayFixture()
    expect(await seen(port, '/late/x')).toBe('404')
    session.startup({ url: 'http://late' })
    expect(await seen(port, '/late/x')).toBe('/x')
    await session.update({ url: 'http://late', concurrency: 2 })
    expect(await seen(port, '/late/x')).toBe('/x')
    await session.remove('http://late')
    expect(await seen(port, '/late/x')).toBe('404')
    expect(await seen(port, '/x', 'late')).toBe('404')
    expect(await seen(port, '/calc/x')).toBe('/x')
  })

  test('a 404 is a problem that names what there is', async () => {
    const { url } = await openGatewayFixture()
    const res = await request(`${url}/nowhere/x`)
    expect(res.statusCode).toBe(404)
    expect(res.headers['content-type']).toBe('application/problem+json')
    const problem = (await res.body.json()) as Record<string, unknown>
    expect(problem).toMatchObject({
      status: 404,
      code: 'MANYHOST_UNKNOWN_SERVICE',
      retryable: false,
    })
    expect(problem.detail).toContain('http://calc')
    expect(res.headers['x-request-id']).toBe(problem.instance)
  })
})

describe('targets', () => {
  test('in absolute form: its host is the one, not the header (RFC 9112 section 3.2.2)', async () => {
    const { port } = await openGatewayFixture()
    expect(await seen(port, 'http://calc/a/../b?c', 'other')).toBe('/a/../b?c')
    expect(await seen(port, 'HTTP://CALC:80', 'other')).toBe('/')
    expect(await seen(port, 'https://calc?x', 'other')).toBe('/?x')
    expect(await seen(port, 'http://other/a', 'calc')).toBe('404')
  })

  test('OPTIONS * is answered by the gateway', async () => {
    const { port, provider } = await openGatewayFixture()
    const text = await sendRaw(
      port,
      'OPTIONS * HTTP/1.1\r\nHost: calc\r\nConnection: close\r\n\r\n',
    )
    expect(text).toMatch(/^HTTP\/1.1 204 .*\r\nallow: GET, HEAD/s)
    expect(provider.instances[0]?.requests ?? 0).toBe(0)
  })

  test('that no URL parser takes pass on as they are', async () => {
    const { port } = await openGatewayFixture()
    for (const target of ['/%', '//', '/a//b', '/a\\b', '/{x}|"<>^`', '/?%zz', '/:@;,']) {
      expect(await seen(port, target, 'calc'), target).toBe(target)
    }
  })
})

describe('methods', () => {
  const METHODS = [
    'GET',
    'POST',
    'PUT',
    'PATCH',
    'DELETE',
    'OPTIONS',
    'PROPFIND',
    'REPORT',
    'TRACE',
  ]

  test('each comes through', async () => {
    const { port } = await openGatewayFixture()
    for (const method of METHODS) {
      const text = await sendRaw(
        port,
        `${method} /calc/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
      )
      expect(text, method).toContain(`"method":"${method}"`)
    }
  })

  test('CONNECT is refused', async () => {
    const { port } = await openGatewayFixture()
    expect(await sendRaw(port, 'CONNECT calc:80 HTTP/1.1\r\nHost: calc:80\r\n\r\n')).toMatch(
      /^HTTP\/1.1 405 /,
    )
  })

  const answers = async (options?: object): Promise<GatewayFixture> =>
    openGatewayFixture((req, res) => {
      const [, status = '', length = ''] = (req.url as string).split('/')
      res.writeHead(Number(status), length ? { 'content-length': length } : {})
      res.end()
    }, options)

  test('HEAD, 204, 205 and 304 have no body, and the connection goes on', async () => {
    const { port } = await answers()
    const wire = await connectRaw(port)
    wire.write('HEAD /200/5 HTTP/1.1\r\nHost: calc\r\n\r\n')
    wire.write('HEAD /200 HTTP/1.1\r\nHost: calc\r\n\r\n')
    wire.write('GET /204 HTTP/1.1\r\nHost: calc\r\n\r\n')
    wire.write('GET /304 HTTP/1.1\r\nHost: calc\r\n\r\n')
    wire.write('GET /205/0 HTTP/1.1\r\nHost: calc\r\nConnection: close\r\n\r\n')
    const answered = (await wire.end()).split('HTTP/1.1 ').slice(1)
    expect(answered.map((one) => one.slice(0, 3))).toEqual(['200', '200', '204', '304', '205'])
    expect(answered[0]).toMatch(/content-length: 5\r\n/i)
    for (const one of answered) expect(one).toMatch(/\r\n\r\n$/)
    expect(answered[2]).not.toMatch(/transfer-encoding|content-length/i)
  })
})

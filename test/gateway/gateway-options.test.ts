import { createServer } from 'node:net'
import { request } from 'undici'
import { afterEach, describe, expect, test } from 'vitest'
import { createGateway, type GatewayOptions, type RouteOptions } from '../../src/gateway/index.ts'
import { parsePriority } from '../../src/gateway/priority.ts'
import { useFalseClock } from '../clock.ts'
import { expectNothingLeft } from '../leftovers.ts'
import {
  cleanUp,
  connectRaw,
  createLatch,
  openGatewayFixture,
  sendRaw,
  waitUntil,
} from './gateway-fixture.ts'

expectNothingLeft()

afterEach(cleanUp)

const GET = 'GET /calc HTTP/1.1\r\nHost: x\r\n\r\n'

const door = (given: RouteOptions): { gateway: GatewayOptions } => ({
  gateway: { services: { 'http://calc': given } },
})

describe('who may ask', () => {
  test('bearer tokens and passwords; the secret is in no answer', async () => {
    const { url, provider } = await openGatewayFixture(
      undefined,
      door({ auth: { bearer: ['t0ken', 'other'], basic: { me: 'p:w' } } }),
    )
    const status = async (authorization?: string): Promise<number> => {
      const res = await request(`${url}/calc`, {
        headers: authorization === undefined ? {} : { authorization },
      })
      const text = await res.body.text()
      if (res.statusCode === 401) {
        expect(res.headers['www-authenticate']).toBe(
          'Bearer realm="manyhost", Basic realm="manyhost", charset="UTF-8"',
        )
        expect(text).not.toMatch(/t0ken|p:w|wrong-one/)
      }
      return res.statusCode
    }
    const basic = (text: string): string => `Basic ${Buffer.from(text).toString('base64')}`
    for (const good of ['Bearer t0ken', 'bearer other', basic('me:p:w')])
      expect(await status(good), good).toBe(200)
    const before = provider.instances[0]?.requests
    for (const bad of [
      undefined,
      '',
      'Bearer',
      'Bearer wrong-one',
      'Bearer t0ke',
      'Basic t0ken',
      basic('me:wrong-one'),
      basic('you:p:w'),
      't0ken',
    ]) {
      expect(await status(bad), bad).toBe(401)
    }
    expect(provider.instances[0]?.requests).toBe(before)
  })

  test('scripts of listed origins, with a question before', async () => {
    const cors = {
      origins: ['https://a.example'],
      exposedHeaders: ['x-sum'],
      credentials: true,
      maxAge: 60_000,
    }
    const { url } = await openGatewayFixture(undefined, door({ cors, auth: { bearer: ['t'] } }))
    const ask = (headers: Record<string, string>) =>
      request(`${url}/calc`, { method: 'OPTIONS', headers })
    const asked = {
      'access-control-request-method': 'PUT',
      'access-control-request-headers': 'x-a',
    }
    const good = await ask({ origin: 'https://a.example', ...asked })
    expect(good.statusCode).toBe(204)
    expect(good.headers).toMatchObject({
      'access-control-allow-origin': 'https://a.example',
      'access-control-allow-credentials': 'true',
      'access-control-allow-headers': 'x-a',
      'access-control-max-age': '60',
      vary: 'origin',
    })
    const bad = await ask({ origin: 'https://b.example', ...asked })
    expect(bad.headers['access-control-allow-origin']).toBeUndefined()
    const refused = await request(`${url}/calc`, { headers: { origin: 'https://a.example' } })
    expect(refused.statusCode).toBe(401)
    expect(refused.headers['access-control-allow-origin']).toBe('https://a.example')
  })
})

describe('CORS', () => {
  const preflight = async (cors: object, method: string) => {
    const { url } = await openGatewayFixture(undefined, door({ cors: { origins: ['*'], ...cors } }))
    const { headers } = await request(`${url}/calc`, {
      method: 'OPTIONS',
      headers: { origin: 'https://a.example', 'access-control-request-method': method },
    })
    return headers['access-control-allow-methods']
  }

  test('lets scripts use the listed methods', async () => {
    expect(await preflight({ methods: ['GET', 'PURGE'] }, 'DELETE')).toBe('GET, PURGE')
  })

  test('else all, also one that is not usual', async () => {
    const usual = 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS'
    expect(await preflight({}, 'PUT')).toBe(usual)
    expect(await preflight({}, 'PURGE')).toBe(`${usual}, PURGE`)
    expect(await preflight({}, 'PU(RGE')).toBe(usual)
  })
})

describe('`Priority` (RFC 9218)', () => {
  test.each<[string, number | undefined]>([
    ['u=0', 3],
    ['u=3', 0],
    ['u=7, i', -4],
    ['i,u=1;x=2', 2],
    ['u=5, u=2', 1],
    ['u=8', undefined],
    ['u=-1', undefined],
    ['u=1.5', undefined],
    ['U=1', undefined],
    ['xu=1', undefined],
    ['x="a, u=0, b"', undefined],
    ['x="\\", u=0, \\""', undefined],
    ['', undefined],
  ])('%j is %j', (header, priority) => {
    expect(parsePriority(header)).toBe(priority)
  })

  test('the urgent ones are served first, where that was asked for', async () => {
    for (const priorityHeader of [true, false]) {
      const seen: string[] = []
      const { url, cluster, session } = await openGatewayFixture(
        (req, res) => {
          seen.push(req.url ?? '')
          res.end()
        },
        { service: { initSize: 0, concurrency: 1 }, ...door({ priorityHeader }) },
      )
      const answers: Promise<unknown>[] = []
      for (const [name, header] of [
        ['late', 'u=7'],
        ['plain', undefined],
        ['soon', 'u=1'],
        ['now', 'u=0, i'],
      ] as const) {
        const headers = header === undefined ? {} : { priority: header }
        answers.push(request(`${url}/calc/${name}`, { headers }).then(({ body }) => body.dump()))
        await waitUntil(() => cluster.requestQueue.size === answers.length)
      }
      session.setSize('http://calc', 1)
      await Promise.all(answers)
      const order = priorityHeader
        ? ['now', 'soon', 'plain', 'late']
        : ['late', 'plain', 'soon', 'now']
      expect(seen).toEqual(order.map((name) => `/${name}`))
      await cleanUp()
    }
  })
})

describe('while nothing is ready', () => {
  test('a navigation gets a page and wakes the service, others wait', async () => {
    const { url, cluster, session } = await openGatewayFixture(undefined, {
      service: { initSize: 0 },
      ...door({ waitingPage: true, serverTiming: true }),
    })
    const page = { accept: 'text/html,*/*', 'sec-fetch-mode': 'navigate' }
    for (let i = 0; i < 3; i++) {
      const res = await request(`${url}/calc`, { headers: page })
      expect(res.statusCode).toBe(503)
      expect(res.headers).toMatchObject({
        refresh: '2',
        'retry-after': '2',
        'content-type': 'text/html; charset=utf-8',
      })
      expect(await res.body.text()).toContain('calc is starting')
    }
    expect(cluster.requestQueue.size).toBe(1)
    const script = request(`${url}/calc`, { headers: { ...page, 'sec-fetch-mode': 'cors' } })
    await waitUntil(() => cluster.requestQueue.size === 2)
    session.setSize('http://calc', 1)
    const res = await script
    expect(res.statusCode).toBe(200)
    expect(res.headers['server-timing']).toMatch(
      /^queue;dur=[\d.]+, instance;dur=[\d.]+, attempts;desc="1"$/,
    )
    expect((await request(`${url}/calc`, { headers: page })).statusCode).toBe(200)
  })
})

describe('options', () => {
  test.each<[string, unknown]>([
    ['listen', { listen: 'nowhere' }],
    ['unknown', { lissten: ':1' }],
    ['services', { services: { 'no url': {} } }],
    ['auth', { services: { 'http://a': { auth: {} } } }],
    ['bearer', { services: { 'http://a': { auth: { bearer: [1] } } } }],
    ['basic', { services: { 'http://a': { auth: { basic: { a: 1 } } } } }],
    ['cors', { services: { 'http://a': { cors: { origins: ['*'], credentials: true } } } }],
    ['origins', { services: { 'http://a': { cors: { headers: ['x'] } } } }],
    ['headers', { services: { 'http://a': { cors: { origins: ['*'], headers: 5 } } } }],
    ['trusted', { trustedProxies: ['10.0.0.0/33'] }],
    ['trusted name', { trustedProxies: ['proxy'] }],
  ])('a wrong one is refused: %s', async (_name, options) => {
    const { session } = await openGatewayFixture()
    await expect(createGateway(session, options as GatewayOptions)).rejects.toMatchObject({
      code: expect.stringMatching(/^MANYHOST_INVALID_/),
    })
  })
})

describe('listening and closing', () => {
  test('an address that cannot be had gives one clear error', async () => {
    const { session, port } = await openGatewayFixture()
    const fails = (listen: GatewayOptions['listen']) =>
      expect(createGateway(session, { listen: listen as string })).rejects
    await fails(`127.0.0.1:${port}`).toThrow(/cannot listen on 127.0.0.1:\d+: it is taken/)
    await fails({ path: '/no/such/folder/socket' }).toThrow(/cannot listen on unix:/)
    await fails('203.0.113.1:1').toThrow(/no such address/)
  })

  test('close() lets what is under way end, ends idle connections, and may be called again', async () => {
    const more = createLatch()
    const { port, gateway } = await openGatewayFixture(
      async (_req, res) => {
        res.write('abc')
        await more.promise
        res.end('def')
      },
      { gateway: { drainTimeout: 25_000 } },
    )
    const busy = await connectRaw(port, GET)
    const idle = await connectRaw(port)
    await busy.match('abc')
    const closed = gateway.close()
    expect(await idle.end()).toBe('')
    more.open()
    expect(await busy.end()).toContain('def')
    await closed
    await gateway.close()
    await expect(request(gateway.url)).rejects.toMatchObject({ code: 'ECONNREFUSED' })
  })

  test('drain() lets open connections have one more answer, and ends them with it', async () => {
    const { port, gateway } = await openGatewayFixture((_req, res) => res.end('abc'))
    const idle = await connectRaw(port)
    const used = await connectRaw(port, GET)
    await used.match('abc')
    gateway.drain()
    const late = await connectRaw(port)
    for (const wire of [idle, used, late]) {
      expect(await wire.write(GET).end()).toMatch(/200 OK\r\n.*connection: close\r\n.*abc$/is)
    }
  })

  test('close() still takes connections for `shutdownDelay` ms, each for one answer, and none after', async () => {
    const clock = useFalseClock()
    const { port, gateway } = await openGatewayFixture((_req, res) => res.end('abc'), {
      gateway: { shutdownDelay: 5_000 },
    })
    const idle = await connectRaw(port)
    let isClosed = false
    const closed = gateway.close().then(() => {
      isClosed = true
    })
    await clock.pass(4_999)
    for (const wire of [idle, await connectRaw(port)]) {
      expect(await wire.write(GET).end()).toMatch(/200 OK\r\n.*connection: close\r\n.*abc$/is)
    }
    expect(isClosed).toBe(false)
    await clock.pass(1)
    await closed
    await expect(request(gateway.url)).rejects.toMatchObject({ code: 'ECONNREFUSED' })
  })

  test('the shutdown delay begins with drain(): a close() after it does not wait again', async () => {
    const clock = useFalseClock()
    const { port, gateway } = await openGatewayFixture(undefined, {
      gateway: { shutdownDelay: 5_000 },
    })
    gateway.drain()
    await clock.pass(5_000)
    await (await connectRaw(port)).write(GET).end()
    await gateway.close()
  })

  test('what does not end within drainTimeout is cut', async () => {
    const { port, gateway, cluster } = await openGatewayFixture(() => undefined)
    const wire = await connectRaw(port, GET)
    await waitUntil(() => cluster.inFlight === 1)
    await gateway.close()
    expect(await wire.end()).toBe('')
    await waitUntil(() => cluster.inFlight === 0)
  })

  test('behind a unix socket another server is left alone', async () => {
    const { session } = await openGatewayFixture()
    const path = `/tmp/manyhost-gateway-${process.pid}.sock`
    const other = createServer().listen(path)
    await expect(createGateway(session, { listen: `unix:${path}` })).rejects.toThrow(/taken/)
    other.close()
    await new Promise((resolve) => other.once('close', resolve))
    const gateway = await createGateway(session, { listen: `unix:${path}` })
    expect(gateway.url).toBe(`unix:${path}`)
    await gateway.close()
  })

  test('once the session is closed: 503', async () => {
    const { port, session } = await openGatewayFixture()
    const closing = session.close()
    expect(
      await sendRaw(port, 'GET /calc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'),
    ).toMatch(/^HTTP\/1.1 (503|404) /)
    await closing
  })
})

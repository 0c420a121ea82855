import { once } from 'node:events'
import { Readable, Writable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import {
  pipeline as ask,
  type Dispatcher,
  FormData,
  fetch,
  interceptors,
  request,
  stream,
} from 'undici'
import { describe, expect, test } from 'vitest'
import { echo } from '../fakes/echo.ts'
import { openRawService, openService, openSession, readBody } from '../fakes/service.ts'
import { createHoldingProvider, rejectionOf, waitUntil } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'

expectNothingLeft()

describe("undici's ways to ask", () => {
  test('request: query, headers, bodies of all kinds', async () => {
    const { session } = openService(echo)
    const dispatcher = session.dispatcher()
    const bodies = {
      text: 'content',
      bytes: Buffer.from('content'),
      stream: Readable.from(['con', 'tent']),
      iterable: (async function* () {
        yield 'content'
      })(),
    }
    for (const body of Object.values(bodies)) {
      const res = await request('http://calc/p?a=b', {
        dispatcher,
        method: 'PUT',
        headers: { 'X-A': ['1', '2'] },
        body: body as string,
      })
      const seen = (await res.body.json()) as { [name: string]: unknown; rawHeaders: string[] }
      expect([seen.method, seen.url, seen.body]).toEqual(['PUT', '/p?a=b', 'content'])
      const at = seen.rawHeaders.indexOf('X-A')
      expect(seen.rawHeaders.slice(at, at + 4)).toEqual(['X-A', '1', 'X-A', '2'])
    }
    const query = { q: ['1', '2'], r: 'é' }
    const queried = await request('http://calc/p', { dispatcher, query })
    expect(await queried.body.json()).toMatchObject({ url: '/p?q=1&q=2&r=%C3%A9' })
  })

  test('an origin in any spelling, another port, and what Host says', async () => {
    const { session } = openService(echo)
    const dispatcher = session.dispatcher()
    const host = async (origin: string | URL): Promise<unknown> => {
      const res = await dispatcher.request({ origin, path: '/x', method: 'GET' })
      return ((await res.body.json()) as { headers: Record<string, string> }).headers.host
    }
    for (const origin of ['http://calc', 'http://CALC:80/', new URL('http://calc')]) {
      expect(await host(origin)).toBe('calc')
    }
    expect(await host('http://calc:8080')).toBe('calc:8080')
  })

  test('stream, and a pipeline of a body there and an answer back', async () => {
    const { session } = openService((req, res) => void pipeline(req, res))
    const dispatcher = session.dispatcher()
    const chunks: Buffer[] = []
    await stream(
      'http://calc/',
      { dispatcher, method: 'POST', body: 'streamed' },
      () =>
        new Writable({
          write(chunk: Buffer, _encoding: string, done: () => void) {
            chunks.push(chunk)
            done()
          },
        }),
    )
    expect(Buffer.concat(chunks).toString()).toBe('streamed')
    const piped = Readable.from(['pip', 'ed']).pipe(
      ask('http://calc/', { dispatcher, method: 'POST' }, ({ body }) => body),
    )
    expect(await text(piped)).toBe('piped')
  })

  test("fetch: undici's, the session's, and Node's own", async () => {
    const { session } = openService(echo)
    const dispatcher = session.dispatcher()
    const own = globalThis.fetch as unknown as typeof fetch
    for (const one of [fetch, session.fetch.bind(session) as typeof fetch, own]) {
      const res = await one('http://calc/p?q', { dispatcher, method: 'POST', body: 'x' })
      expect(await res.json()).toMatchObject({ method: 'POST', url: '/p?q', body: 'x' })
      expect(res.url).toBe('http://calc/p?q')
    }
    const form = new FormData()
    form.set('a', 'é')
    const res = await fetch('http://calc/', { dispatcher, method: 'POST', body: form })
    expect(Buffer.from(((await res.json()) as { body: string }).body, 'latin1').toString()).toMatch(
      /name="a"\r\n\r\né\r\n/,
    )
  })

  test('fetch decodes gzip, request does not', async () => {
    const { gzipSync } = await import('node:zlib')
    const zipped = gzipSync('content')
    const { session, client } = openService((_req, res) => {
      res.writeHead(200, { 'content-encoding': 'gzip' }).end(zipped)
    })
    const dispatcher = session.dispatcher()
    for (const one of [fetch, globalThis.fetch as unknown as typeof fetch]) {
      expect(await (await one('http://calc/', { dispatcher })).text()).toBe('content')
    }
    const { body } = await request('http://calc/', { dispatcher })
    expect(await readBody(body)).toEqual(zipped)
    expect(Buffer.from(await (await client.get('http://calc/')).bytes())).toEqual(zipped)
  })
})

describe('compose', () => {
  test('retry, redirect and dump above it', async () => {
    let failures = 2
    const { session } = openService((req, res) => {
      if (req.url === '/from') res.writeHead(302, { location: '/to' }).end()
      else if (req.url === '/503' && failures-- > 0) res.writeHead(503).end()
      else res.end('x'.repeat(1000))
    })
    const base = session.dispatcher()
    const get = async (dispatcher: Dispatcher, path: string): Promise<[number, number]> => {
      const { statusCode, body } = await request(`http://calc${path}`, { dispatcher })
      return [statusCode, (await body.text()).length]
    }
    const redirect = base.compose(interceptors.redirect({ maxRedirections: 2 }))
    expect(await get(redirect, '/from')).toEqual([200, 1000])
    const retry = base.compose(interceptors.retry({ minTimeout: 1, maxRetries: 3 }))
    expect(await get(retry, '/503')).toEqual([200, 1000])
    const dump = base.compose(interceptors.dump({ maxSize: 2000 }))
    expect(await get(dump, '/')).toEqual([200, 0])
    const two = base.compose(interceptors.redirect({ maxRedirections: 2 }), interceptors.retry({}))
    expect(await get(two, '/from')).toEqual([200, 1000])
  })
})

describe('1xx, trailers, HEAD', () => {
  test('early hints by onInfo; trailers; raw headers', async () => {
    const { session } = openService((_req, res) => {
      res.writeEarlyHints({ link: '</a.css>; rel=preload' })
      res.writeHead(200, { trailer: 'x-sum', 'X-Case': '1' })
      res.addTrailers({ 'x-sum': '1' })
      res.end('body')
    })
    const infos: unknown[] = []
    const { body, trailers, headers } = await request('http://calc/', {
      dispatcher: session.dispatcher(),
      onInfo: (info: unknown) => void infos.push(info),
    } as object)
    expect(await body.text()).toBe('body')
    expect(infos).toMatchObject([{ statusCode: 103, headers: { link: '</a.css>; rel=preload' } }])
    expect([trailers, headers['x-case']]).toEqual([{ 'x-sum': '1' }, '1'])
  })

  test('100 Continue of a server that sends it unasked, as far as undici takes it', async () => {
    const { client } = await openRawService((socket) =>
      socket.write('HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'),
    )
    expect(await (await client.get('http://calc/')).text()).toBe('ok')
  })

  test('Expect: 100-continue is answered, not refused', async () => {
    const { client, session } = openService(echo)
    const headers = { expect: '100-continue' }
    const res = await client.post('http://calc/', { headers, body: 'x' })
    expect((await res.json()).body).toBe('x')
    const options = {
      dispatcher: session.dispatcher(),
      method: 'POST',
      headers,
      body: 'x',
    } as const
    expect((await request('http://calc/', options)).statusCode).toBe(200)
  })
})

describe('giving up', () => {
  test('before, while it waits, in flight, in the middle of the body', async () => {
    let reached = 0
    const { session } = openService((req, res) => {
      reached++
      if (req.url === '/body') res.write('x')
    })
    const dispatcher = session.dispatcher()
    const cluster = session.cluster('http://calc')
    const gone = AbortSignal.abort(new Error('gone'))
    await expect(request('http://calc/', { dispatcher, signal: gone })).rejects.toThrow('gone')
    expect(reached).toBe(0)
    const one = new AbortController()
    const flying = request('http://calc/', { dispatcher, signal: one.signal })
    await waitUntil(() => reached === 1)
    const two = new AbortController()
    const waiting = request('http://calc/', { dispatcher, signal: two.signal })
    await waitUntil(() => cluster.requestQueue.size === 1)
    two.abort(new Error('two'))
    await expect(waiting).rejects.toThrow('two')
    expect(cluster.requestQueue.size).toBe(0)
    one.abort(new Error('one'))
    await expect(flying).rejects.toThrow('one')
    const three = new AbortController()
    const { body } = await request('http://calc/body', { dispatcher, signal: three.signal })
    await once(body, 'readable')
    three.abort(new Error('three'))
    await expect(body.text()).rejects.toThrow('three')
    await waitUntil(() => cluster.inFlight === 0)
  })

  test('a handler that throws gives its request up', async () => {
    const { session } = openService((_req, res) => void res.end('x'))
    const heard = await new Promise((resolve) =>
      session.dispatcher().dispatch(
        { origin: 'http://calc', path: '/', method: 'GET' },
        {
          onRequestStart() {},
          onResponseStart() {
            throw new Error('thrown')
          },
          onResponseError: (_controller, error) => resolve(error.message),
        },
      ),
    )
    expect(heard).toBe('thrown')
    await waitUntil(() => session.cluster('http://calc').inFlight === 0)
  })

  test('after the session was closed', async () => {
    const { session } = openService(echo)
    const dispatcher = session.dispatcher()
    await session.close()
    await expect(request('http://calc/', { dispatcher })).rejects.toMatchObject({
      code: 'MANYHOST_SESSION_CLOSED',
    })
    await expect(fetch('http://calc/', { dispatcher })).rejects.toThrow('fetch failed')
  })
})

describe("a caller's own limits of time", () => {
  test('headersTimeout begins when the request is sent, and not while it waits for a slot', async () => {
    const { provider, held, holds } = createHoldingProvider()
    const session = openSession(provider)
    session.startup({ url: 'http://calc' })
    const dispatcher = session.dispatcher()
    const first = request('http://calc/first', { dispatcher })
    await holds(1)
    const second = request('http://calc/now', { dispatcher, headersTimeout: 30 })
    // Far longer than it may take once it is sent.
    await new Promise((resolve) => setTimeout(resolve, 150))
    held[0]?.answer()
    await (await first).body.text()
    expect((await second).statusCode).toBe(200)
  })

  test('they end the request: it is not sent again, and its instance is not blamed', async () => {
    let asked = 0
    const { session } = openService(
      (req, res) => {
        asked++
        if (req.url === '/held') res.writeHead(200, { 'content-length': '9' }).write('part')
        if (req.url === '/passed') res.writeHead(200).write('part')
      },
      { ejectAfter: 1 },
    )
    const dispatcher = session.dispatcher()
    const cluster = session.cluster('http://calc')
    const get = async (path: string): Promise<unknown> => {
      const limits = { headersTimeout: 50, bodyTimeout: 50 }
      const { body } = await request(`http://calc${path}`, { dispatcher, ...limits })
      return body.text()
    }
    const kinds = { '/': 'headersTimeout', '/held': 'bodyTimeout', '/passed': 'bodyTimeout' }
    for (const [path, name] of Object.entries(kinds)) {
      const error = await rejectionOf(get(path))
      expect(error).toMatchObject({ code: 'MANYHOST_TIMEOUT', name: 'TimeoutError', status: 504 })
      expect(error.message).toContain(`within 50 ms (${name})`)
      expect((error.cause as { code?: string }).code).toBe(
        name === 'headersTimeout' ? 'UND_ERR_HEADERS_TIMEOUT' : 'UND_ERR_BODY_TIMEOUT',
      )
      await waitUntil(() => cluster.inFlight === 0)
    }
    expect([asked, cluster.instances[0]?.state]).toEqual([3, 'ready'])
    expect(cluster.stats()).toMatchObject({ resends: 0, ejections: 0 })
  })
})

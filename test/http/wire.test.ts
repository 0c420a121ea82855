import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { setImmediate as turn } from 'node:timers/promises'
import { request } from 'undici'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { inProcess } from '../../providers/testing/index.ts'
import { echo } from '../fakes/echo.ts'
import { openRawService, openService, openSession } from '../fakes/service.ts'
import { waitUntil } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'

expectNothingLeft()

test.each([
  '/a%2Fb/%2e%2E',
  '/?',
  '/?a=&b&&c=%20+%2B',
  '/?a=1&a=2',
  '/a//b/',
  '/x;y=1,2@:!$',
  '/%C3%A9?q=%E2%98%83',
  '/?u=http://x/?y',
])('a path as it is: %s', async (path) => {
  const { client, session } = openService(echo)
  const wanted = new URL(`http://calc${path}`)
  const sent = path === '/?' ? path : wanted.pathname + wanted.search
  const one = await (await client.get(`http://calc${path}`)).json()
  const { body } = await request(`http://calc${path}`, { dispatcher: session.dispatcher() })
  const other = (await body.json()) as { url: string }
  expect(other.url).toBe(wanted.pathname + wanted.search)
  expect([sent, wanted.pathname + wanted.search]).toContain(one.url)
})

test('keep-alive: connections serve request after request', async () => {
  const served = new Set<unknown>()
  const { client } = await openRawService((socket) => {
    served.add(socket)
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
  })
  for (let i = 0; i < 10; i++) await (await client.get('http://calc/')).text()
  // A pool may have one connection more than it has places.
  expect(served.size).toBeLessThanOrEqual(2)
})

test('the bytes of a header go both ways', async () => {
  const { client } = await openRawService((socket, head) => {
    const value = /x-latin: (.*)\r\n/.exec(head)?.[1]
    socket.write(`HTTP/1.1 200 OK\r\nX-Back: ${value}\r\nContent-Length: 0\r\n\r\n`, 'latin1')
  })
  const res = await client.get('http://calc/', { headers: { 'x-latin': 'é\tü' } })
  expect(res.headers.get('x-back')).toBe('é\tü')
})

describe('streams', () => {
  const PIECE = Buffer.alloc(64 * 1024, 'x')
  const PIECES = 800

  test('50 MB both ways: whoever writes waits for whoever reads', async () => {
    const { client } = openService((req, res) => void req.pipe(res))
    let written = 0
    let read = 0
    let most = 0
    const body = (async function* () {
      for (let i = 0; i < PIECES; i++) {
        written += PIECE.length
        most = Math.max(most, written - read)
        yield PIECE
      }
    })()
    const res = await client.post('http://calc/', { body, resend: 'never' })
    for (let i = 0; i < 300; i++) await turn()
    const halted = written
    for (let i = 0; i < 300; i++) await turn()
    expect(written).toBe(halted)
    for await (const chunk of res.body as never as AsyncIterable<Uint8Array>) read += chunk.length
    expect(read).toBe(PIECES * PIECE.length)
    expect(most).toBeLessThan(40 * PIECE.length)
  })

  test('events come as they are sent', async () => {
    let send = (_text: string): void => {}
    const { client, session } = openService((_req, res) => {
      res.writeHead(200, { 'content-type': 'text/event-stream' })
      send = (text) => (text === '' ? res.end() : res.write(text))
      send('data: 0\n\n')
    })
    const asked = [
      async () => (await client.get('http://calc/')).body as never as AsyncIterable<Uint8Array>,
      async () => (await request('http://calc/', { dispatcher: session.dispatcher() })).body,
    ]
    for (const ask of asked) {
      const seen: string[] = []
      for await (const chunk of await ask()) {
        seen.push(Buffer.from(chunk).toString())
        send(seen.length < 3 ? `data: ${seen.length}\n\n` : '')
      }
      expect(seen).toEqual(['data: 0\n\n', 'data: 1\n\n', 'data: 2\n\n'])
    }
  })
})

describe('routing', () => {
  test('scheme, port, longest prefix, services that come later, the real network', async () => {
    const named = (name: string) => inProcess((_req, res) => res.end(name), { style: 'node' })
    const session = openSession(named('default'))
    const client = session.client()
    const server = createServer((_req, res) => res.end('network')).listen(0, '127.0.0.1')
    await once(server, 'listening')
    onTestFinished(() => void server.close())
    const network = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const urls = [
      'http://calc',
      'https://calc',
      'http://calc:81',
      'http://calc/v2',
      'http://calc/v2/x/',
    ]
    for (const url of urls) session.startup({ url, provider: named(url) })
    const wanted: [string, string][] = [
      ['http://calc/', 'http://calc'],
      ['http://CALC:80/v1', 'http://calc'],
      ['http://calc:8080/', 'http://calc'],
      ['https://calc/v2', 'https://calc'],
      ['http://calc:81/v2', 'http://calc:81'],
      ['http://calc/v2', 'http://calc/v2'],
      ['http://calc/v2?q', 'http://calc/v2'],
      ['http://calc/v20', 'http://calc'],
      ['http://calc/v2/x', 'http://calc/v2/x/'],
      ['http://calc/v1/../v2/x/y', 'http://calc/v2/x/'],
      [`${network}/calc`, 'network'],
    ]
    const dispatcher = session.dispatcher()
    for (const [url, name] of wanted) {
      expect([url, await (await client.get(url)).text()]).toEqual([url, name])
      const { body } = await request(url, { dispatcher })
      expect([url, await body.text()]).toEqual([url, name])
    }
    session.startup({ url: network, provider: named('mine') })
    expect(await (await client.get(network)).text()).toBe('mine')
    for (const url of ['http://calc/', 'http://CALC:80', 'http://calc/v2/']) {
      expect(() => session.startup({ url })).toThrow(/exists already/)
    }
    for (const url of [
      'calc',
      'ftp://calc',
      'http://u@calc',
      'http://calc?q',
      'http://calc#f',
      '',
    ]) {
      expect(() => session.startup({ url })).toThrow(
        expect.objectContaining({ code: 'MANYHOST_INVALID_URL' }),
      )
    }
  })

  test('an unread answer of the network does not keep a session open', async () => {
    const server = createServer((_req, res) => void res.write('x')).listen(0, '127.0.0.1')
    await once(server, 'listening')
    onTestFinished(() => void server.close())
    const session = openSession(inProcess(() => new Response('')))
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const res = await session.client().get(url)
    expect(res.status).toBe(200)
    await session.close({ timeout: 10 })
    server.closeAllConnections()
    await expect(res.text()).rejects.toMatchObject({ code: 'MANYHOST_RESPONSE_INTERRUPTED' })
  })
})

describe('queue', () => {
  /** One place; `open` lets the one that is served go. */
  function gated(options = {}): ReturnType<typeof openService> & { order: string[]; open(): void } {
    const order: string[] = []
    let go: (() => void) | undefined
    const made = openService((req, res) => {
      order.push(req.url as string)
      go = () => void res.end()
    }, options)
    return { ...made, order, open: () => go?.() }
  }

  test('priority, then arrival; fairness by turns', async () => {
    for (const [options, wanted] of [
      [{}, ['/0', '/b2', '/b4', '/a1', '/a3', '/c5']],
      [
        { fairness: ({ path }: { path: string }) => path[1] },
        ['/0', '/b2', '/b4', '/a1', '/c5', '/a3'],
      ],
    ] as const) {
      const { client, session, order, open } = gated(options)
      const all = [client.get('http://calc/0')]
      await waitUntil(() => order.length === 1)
      for (const path of ['a1', 'b2', 'a3', 'b4', 'c5']) {
        all.push(client.get(`http://calc/${path}`, { priority: path.startsWith('b') ? 1 : 0 }))
      }
      expect(session.cluster('http://calc').requestQueue.size).toBe(5)
      for (let served = 1; served <= 6; served++) {
        await waitUntil(() => order.length === served)
        open()
      }
      await Promise.all(all)
      expect(order).toEqual(wanted)
    }
  })

  test('maxQueue refuses at once, queueTimeout after a while, an abort leaves no trace', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
    onTestFinished(() => void vi.useRealTimers())
    const { client, session } = openService(() => undefined, {
      initSize: 0,
      maxQueue: 2,
      queueTimeout: 60,
    })
    const { requestQueue } = session.cluster('http://calc')
    const gone = new AbortController()
    const first = client.get('http://calc/', { signal: gone.signal })
    const second = client.get('http://calc/')
    await expect(client.get('http://calc/')).rejects.toMatchObject({
      code: 'MANYHOST_QUEUE_FULL',
      status: 503,
      retryable: true,
    })
    gone.abort()
    await expect(first).rejects.toMatchObject({ code: 'MANYHOST_ABORTED', name: 'AbortError' })
    expect(requestQueue.size).toBe(1)
    vi.advanceTimersByTime(59)
    expect(requestQueue.size).toBe(1)
    vi.advanceTimersByTime(1)
    await expect(second).rejects.toMatchObject({
      code: 'MANYHOST_QUEUE_TIMEOUT',
      message: expect.stringContaining(
        'no instance was free within 60 ms (queueTimeout); 0 wanted',
      ),
    })
    expect([requestQueue.size, requestQueue.oldestAge]).toEqual([0, 0])
  })

  test('10,000 waiting requests, aborted', async () => {
    const { client, session } = openService(() => undefined, { initSize: 0 })
    const gone = Array.from({ length: 10_000 }, () => new AbortController())
    const all = gone.map(({ signal }, i) =>
      client.get('http://calc/', { signal, priority: i % 7 }).catch(({ code }) => code),
    )
    const { requestQueue } = session.cluster('http://calc')
    expect(requestQueue.size).toBe(10_000)
    for (const one of gone) one.abort()
    expect(requestQueue.isEmpty).toBe(true)
    expect(new Set(await Promise.all(all))).toEqual(new Set(['MANYHOST_ABORTED']))
  })
})

test('hedge: the first answer wins, the other is ended; never for POST', async () => {
  const seen: string[] = []
  const closed: string[] = []
  const { client, session } = openService(
    (req, res) => {
      seen.push(`${req.method} ${req.headers['x-manyhost-attempt']}`)
      res.once('close', () => closed.push(`${res.writableFinished}`))
      if (req.headers['x-manyhost-attempt'] === '2') res.end('second')
      else if (req.method === 'POST') setTimeout(() => res.end('first'), 60)
    },
    { initSize: 2, hedge: { after: 10 } },
  )
  await waitUntil(() =>
    session.cluster('http://calc').instances.every(({ state }) => state === 'ready'),
  )
  expect(await (await client.get('http://calc/')).text()).toBe('second')
  await waitUntil(() => closed.length === 2)
  expect(closed.sort()).toEqual(['false', 'true'])
  expect(
    await (
      await client.post('http://calc/', {
        body: Readable.from(['x']) as never,
        idempotencyKey: undefined,
      } as object)
    ).text(),
  ).toBe('first')
  expect(seen).toEqual(['GET 1', 'GET 2', 'POST 1'])
  expect(session.cluster('http://calc').stats()).toMatchObject({ hedges: 1, resends: 0 })
  await waitUntil(() => session.cluster('http://calc').inFlight === 0)
})

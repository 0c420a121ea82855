/** Every weakness of the ancestor (ya-httpx-client) that was verified is gone; the numbers are those of its review. */
import { afterEach, describe, expect, test } from 'vitest'
import { type InProcessProvider, inProcess, type NodeHandler } from '../providers/testing/index.ts'
import { ManyhostError, type ServiceOptions, Session } from '../src/index.ts'
import {
  countStates,
  createHoldingProvider,
  createLatch,
  NEVER,
  nextEvent,
  recordEvents,
  rejectionOf,
  runEventLoop,
  waitForReady,
  waitUntil,
} from './help.ts'

let session: Session
afterEach(() => session.close({ force: true }))

/** A session with the service http://calc in this process; no tick comes to its help. */
function serve(
  what: NodeHandler | ReturnType<typeof createHoldingProvider>['provider'],
  options: Partial<ServiceOptions> = {},
) {
  const provider = typeof what === 'function' ? inProcess(what, { style: 'node' }) : what
  session = new Session({ provider, tickInterval: NEVER })
  session.startup({ url: 'http://calc', ...options })
  return { client: session.client(), cluster: session.cluster('http://calc'), provider }
}

describe('what the wire lost', () => {
  test('1d-1: the request line, its query string and the first header arrive as they were sent', async () => {
    const { client } = serve((req, res) => {
      res.end(JSON.stringify([req.method, req.url, req.headers['x-first'], req.httpVersion]))
    })
    const res = await client.get('http://calc/add?a=1&b=2&a=3', { headers: { 'X-First': 'one' } })
    expect(await res.json()).toEqual(['GET', '/add?a=1&b=2&a=3', 'one', '1.1'])
  })

  test('1d-2: a status is a number', async () => {
    const { client } = serve((_req, res) => res.writeHead(418).end())
    expect((await client.get('http://calc/')).status === 418).toBe(true)
  })

  test('1d-3: repeated headers stay repeated, and a header without a space after its colon is one', async () => {
    const { client } = serve((req, res) => {
      if (req.url === '/sent') return void res.end(JSON.stringify(req.rawHeaders))
      const head = 'HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nX-Plain:yes\r\nSet-Cookie: b=2\r\n'
      req.socket.end(`${head}Content-Length: 0\r\n\r\n`)
    })
    const sent = await client.get('http://calc/sent', { headers: ['X-Tag', 'one', 'X-Tag', 'two'] })
    expect((await sent.json()) as string[]).toEqual(
      expect.arrayContaining(['X-Tag', 'one', 'X-Tag', 'two']),
    )
    const { headers } = await client.get('http://calc/')
    expect(headers.getSetCookie()).toEqual(['a=1', 'b=2'])
    expect(headers.get('x-plain')).toBe('yes')
  })

  test('1d-4: bodies are bytes, both ways', async () => {
    const { client } = serve((req, res) => req.pipe(res))
    const body = Uint8Array.from({ length: 70_000 }, (_, i) => (i * 7) % 256)
    const res = await client.post('http://calc/', { body })
    expect(Buffer.compare(await res.bytes(), body)).toBe(0)
  })

  test('1d-5: a body in many pieces arrives whole, and piece by piece', async () => {
    const gate = createLatch()
    const { client } = serve(async (_req, res) => {
      res.write('first')
      await gate.promise
      for (let i = 0; i < 300; i++) res.write('0123456789'.repeat(1_000))
      res.end('last')
    })
    const { body } = await client.get('http://calc/')
    let text = ''
    for await (const chunk of body as ReadableStream<Uint8Array>) {
      if (text === '') gate.open()
      text += Buffer.from(chunk)
    }
    expect([text.length, text.slice(0, 5), text.slice(-4)]).toEqual([3_000_009, 'first', 'last'])
  })
})

describe('what got lost', () => {
  test('1d-6: an instance that is scaled down ends its request first', async () => {
    const { provider, holds, held } = createHoldingProvider()
    const { client } = serve(provider)
    const answer = client.get('http://calc/one').then((res) => res.text())
    await holds(1)
    session.setSize('http://calc', 0)
    await waitUntil(() => countStates(session, 'http://calc').draining === 1)
    held[0]?.answer()
    expect(await answer).toBe('one')
    await waitUntil(() => session.cluster('http://calc').instances.length === 0)
  })

  test('1d-6: one that may not take its time is sent again elsewhere', async () => {
    const { provider, holds, held } = createHoldingProvider()
    const { client } = serve(provider, { drainTimeout: 1 })
    const answer = client.get('http://calc/one').then((res) => res.text())
    await holds(1)
    const first = held[0]?.instance
    session.setSize('http://calc', 0)
    await waitUntil(() => held.length === 0)
    session.setSize('http://calc', 1)
    await holds(1)
    expect(held[0]?.instance).not.toBe(first)
    held[0]?.answer()
    expect(await answer).toBe('one')
  })

  test('1d-7: a request that kills every instance is given up after maxAttempts, with their causes', async () => {
    const inner: InProcessProvider = inProcess(
      (req) => inner.instances.find(({ id }) => id === req.instance)?.kill(),
      { style: 'node' },
    )
    const { client } = serve(inner, { maxAttempts: 3 })
    const error = await rejectionOf(client.post('http://calc/poison', { json: {} }))
    expect(error).toMatchObject({ code: 'MANYHOST_ATTEMPTS_EXHAUSTED', status: 502 })
    expect(error.attempts.map(({ attempt }) => attempt)).toEqual([1, 2, 3])
    expect(new Set(error.attempts.map(({ instance }) => instance)).size).toBe(3)
  })

  test('1d-7: what is not to be repeated is not, where that is asked for', async () => {
    const { provider, holds, held, seen, kill } = createHoldingProvider()
    const { client } = serve(provider, { resend: 'idempotent' })
    const post = rejectionOf(client.post('http://calc/post'))
    await holds(1)
    kill()
    expect(await post).toMatchObject({ code: 'MANYHOST_NOT_RESENT' })
    const get = client.get('http://calc/get')
    await holds(1)
    kill()
    await holds(1)
    held[0]?.answer()
    await get
    expect(seen).toEqual(['post', 'get', 'get'])
  })

  test('1d-7: a request that is sent again goes before those that waited behind it', async () => {
    const { provider, holds, held, seen, kill } = createHoldingProvider()
    const { client } = serve(provider)
    const answers = ['one', 'two', 'three'].map((name) => client.get(`http://calc/${name}`))
    await holds(1)
    kill()
    for (let left = 3; left > 0; left--) {
      await holds(1)
      held[0]?.answer()
    }
    await Promise.all(answers)
    expect(seen).toEqual(['one', 'one', 'two', 'three'])
  })

  test('1d-8: close settles what is in flight and what waits', async () => {
    const { provider, holds } = createHoldingProvider()
    const { client } = serve(provider)
    const all = [1, 2, 3].map((n) => rejectionOf(client.get(`http://calc/${n}`)))
    await holds(1)
    await session.close({ timeout: 1 })
    for (const error of await Promise.all(all)) expect(error.code).toBe('MANYHOST_SESSION_CLOSED')
  })

  test('1d-9: a caller that gives up harms no instance', async () => {
    const { provider, holds } = createHoldingProvider()
    const { client, cluster } = serve(provider)
    await waitForReady(session, 'http://calc', 1)
    const [id] = cluster.instances.map((instance) => instance.id)
    const events = recordEvents(session, 'instance')
    const late = await rejectionOf(client.get('http://calc/late', { timeout: 5 }))
    expect(late).toMatchObject({ code: 'MANYHOST_TIMEOUT', name: 'TimeoutError' })
    const controller = new AbortController()
    const given = rejectionOf(client.get('http://calc/given-up', { signal: controller.signal }))
    await holds(1)
    controller.abort()
    expect(await given).toMatchObject({ code: 'MANYHOST_ABORTED', name: 'AbortError' })
    expect(await (await client.get('http://calc/now')).text()).toBe('now')
    expect(cluster.instances.map((instance) => instance.id)).toEqual([id])
    expect(events.map(({ state }) => state).filter((state) => state === 'failed')).toEqual([])
  })

  test('1d-10: a service registered after its client was made is reached by it', async () => {
    const { client, provider } = serve((req, res) => res.end(req.headers.host))
    session.startup({ url: 'http://later', provider })
    expect(await (await client.get('http://later/')).text()).toBe('later')
  })
})

describe('what was slow, endless or missing', () => {
  test('1d-11: nothing waits for a tick: start, queue, replacement and shrinking come at once', async () => {
    const { provider, holds, held, kill } = createHoldingProvider()
    const { client, cluster } = serve(provider)
    const answer = client.get('http://calc/one')
    await holds(1)
    kill()
    await holds(1)
    held[0]?.answer()
    await answer
    session.setSize('http://calc', 3)
    await waitForReady(session, 'http://calc', 3)
    session.setSize('http://calc', 1)
    await waitUntil(() => cluster.instances.length === 1)
  })

  test('1d-11: a hundred instances that came and went leave nothing behind', async () => {
    const { provider } = createHoldingProvider()
    const { cluster, client } = serve(provider)
    for (let round = 0; round < 100; round++) {
      await waitForReady(session, 'http://calc', 1)
      // It has served something: it has not failed to start, and its successor need not wait.
      await (await client.get('http://calc/now')).text()
      provider.instances[0]?.kill()
      await waitUntil(() => provider.instances.length === 0)
    }
    await waitForReady(session, 'http://calc', 1)
    expect(cluster.instances).toHaveLength(1)
    expect(session.snapshot().clusters[0]?.instances).toHaveLength(1)
  })

  test('1d-12: several requests at a time, priorities, deadlines, and all of it to be seen', async () => {
    const { provider, holds, held, seen } = createHoldingProvider()
    const { client, cluster } = serve(provider, { concurrency: 2 })
    const ends = recordEvents(session, 'request')
    const first: Promise<unknown>[] = []
    // One after the other: they go by two connections, on which neither is before the other.
    for (const name of ['a', 'b']) {
      first.push(client.get(`http://calc/${name}`))
      await holds(first.length)
    }
    const late = rejectionOf(client.get('http://calc/late', { timeout: 1 }))
    const rest = [
      client.get('http://calc/low'),
      client.get('http://calc/high', { priority: 1 }),
      client.get('http://calc/low2'),
    ]
    expect((await late).code).toBe('MANYHOST_TIMEOUT')
    expect([cluster.inFlight, cluster.requestQueue.size]).toEqual([2, 3])
    expect(await session.metrics.metrics()).toContain(
      'manyhost_queue_size{service="http://calc"} 3',
    )
    for (let left = 5; left > 0; left--) {
      await waitUntil(() => held.length > 0)
      held[0]?.answer()
      await runEventLoop()
    }
    await Promise.all([...first, ...rest])
    expect(seen).toEqual(['a', 'b', 'high', 'low', 'low2'])
    expect(ends.map(({ path, outcome }) => `${path} ${outcome}`)).toContain('/late expired')
  })

  test("1d-13: an end need not be followed by a new start (onStop: 'ignore', 'raise')", async () => {
    const { provider } = createHoldingProvider()
    serve(provider, { onStop: 'raise' })
    session.startup({ url: 'http://other', initSize: 2, onStop: 'ignore' })
    await waitForReady(session, 'http://calc', 1)
    await waitForReady(session, 'http://other', 2)
    const raised = nextEvent(session, 'error')
    for (const instance of provider.instances.filter(({ id }) => !id.endsWith('3'))) instance.kill()
    expect((await raised).code).toBe('MANYHOST_INSTANCE_ENDED')
    const error = await rejectionOf(session.client().get('http://calc/now'))
    expect(error.code).toBe('MANYHOST_INSTANCE_ENDED')
    await runEventLoop()
    expect(countStates(session, 'http://other')).toEqual({ ready: 1 })
    expect((await session.client().get('http://other/now')).status).toBe(200)
  })

  test('1d-13: requests with one affinity go to one instance', async () => {
    const { client } = serve((req, res) => res.end(req.instance), { initSize: 4 })
    await waitForReady(session, 'http://calc', 4)
    const seen = new Set<string>()
    for (let i = 0; i < 12; i++) {
      seen.add(await (await client.get('http://calc/', { affinity: 'user 7' })).text())
    }
    expect(seen.size).toBe(1)
  })

  test('1d-14: the queue is bounded, and says why nobody serves it', async () => {
    const { provider } = createHoldingProvider()
    const { client } = serve(provider, { initSize: 0, maxQueue: 2, queueTimeout: 300 })
    const waiting = [1, 2].map((n) => rejectionOf(client.get(`http://calc/${n}`)))
    const refused = await rejectionOf(client.get('http://calc/3'))
    expect(refused).toBeInstanceOf(ManyhostError)
    expect(refused).toMatchObject({ code: 'MANYHOST_QUEUE_FULL', status: 503, retryable: true })
    for (const error of await Promise.all(waiting)) {
      expect(error.code).toBe('MANYHOST_QUEUE_TIMEOUT')
      expect(error.message).toContain('0 wanted, no instance')
    }
  })
})

/** What the ancestor (ya-httpx-client) could do has its counterpart. Y1: see each `new Session`. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { resolve } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { inProcess } from '../providers/testing/index.ts'
import { type Cluster, Session, SimpleLoadBalancer } from '../src/index.ts'
import {
  catchThrown,
  countStates,
  createHoldingProvider,
  createLatch,
  NEVER,
  rejectionOf,
  runEventLoop,
  service,
  waitForReady,
  waitUntil,
} from './help.ts'

let session: Session
beforeEach(() => {
  session = new Session({ tickInterval: NEVER })
})
afterEach(() => session.close({ force: true }))

const pid = process.execPath

test('Y1: a session is made of options, and starts nothing', async () => {
  const { provider } = createHoldingProvider()
  const quiet = new Session({ provider, budget: { instances: 10 } })
  await runEventLoop()
  expect([provider.instances.length, quiet.snapshot().clusters]).toEqual([0, []])
  await quiet.close()
})

test('Y2: a service by a function: it operates only after the steps have ended', async () => {
  const steps: string[] = []
  session.startup({ url: 'http://calc' }, async (ctx, listenOn) => {
    steps.push((await ctx.run(pid, '-e', 'process.stdout.write("prepared")')) as string)
    expect(countStates(session, 'http://calc')).toEqual({ starting: 1 })
    await ctx.spawn(...(service as [string, string]))
    steps.push(`listens on ${typeof listenOn.port}`)
  })
  expect((await session.client().get('http://calc/pid')).status).toBe(200)
  expect(steps).toEqual(['prepared', 'listens on number'])
})

test('Y3: a service by a command; a second one at its URL is refused', async () => {
  const options = { url: 'http://calc', command: service }
  session.startup(options)
  expect(catchThrown(() => session.startup(options))).toMatchObject({
    code: 'MANYHOST_DUPLICATE_SERVICE',
  })
  expect((await session.client().get('http://calc/pid')).status).toBe(200)
})

test('Y4: a virtual host needs no DNS, and all other URLs go to the network', async () => {
  const real = createServer((_req, res) => res.end('real')).listen(0, '127.0.0.1')
  await waitUntil(() => real.listening)
  const provider = inProcess((req, res) => void res.end(`virtual ${req.url}`))
  session.startup({ url: 'http://any_name', provider })
  session.startup({ url: 'http://any_name/deeper', provider })
  const client = session.client()
  const address = `http://127.0.0.1:${(real.address() as AddressInfo).port}/`
  expect(await (await client.get(address)).text()).toBe('real')
  expect(await (await client.get('http://any_name/x')).text()).toBe('virtual /x')
  expect(await (await client.get('http://any_name/deeper/y')).text()).toBe('virtual /deeper/y')
  real.close()
})

test('Y5: a client with headers of its own, and an end of its own', async () => {
  const provider = inProcess((req, res) => void res.end(req.headers['x-mine']))
  session.startup({ url: 'http://calc', provider })
  const client = session.client({ headers: { 'X-Mine': 'yes' } })
  expect(await (await client.get('http://calc/')).text()).toBe('yes')
  await client.close()
  expect((await rejectionOf(client.get('http://calc/'))).code).toBe('MANYHOST_SESSION_CLOSED')
})

test('Y6: requests as of any HTTP client; what the service answers is passed on unchanged', async () => {
  const provider = inProcess((req, res) => {
    res.writeHead(Number.parseInt(req.url?.slice(1) ?? '', 10), {
      'X-Method': req.method as string,
    })
    req.pipe(res)
  })
  session.startup({ url: 'http://calc', provider })
  const client = session.client()
  for (const method of ['post', 'put', 'patch', 'delete', 'options', 'get'] as const) {
    for (const status of [200, 404, 405, 500]) {
      const body = method === 'get' ? {} : { json: { a: [1] } }
      const res = await client[method](`http://calc/${status}?b=1`, body)
      expect([res.status, res.headers.get('x-method')]).toEqual([status, method.toUpperCase()])
      expect(await res.text()).toBe(method === 'get' ? '' : '{"a":[1]}')
    }
  }
})

test('Y7, Y8: a size is set at any time; of an unknown service it is refused', async () => {
  const { provider } = createHoldingProvider()
  session.startup({ url: 'http://calc', provider })
  session.setSize('http://calc', 3)
  await waitForReady(session, 'http://calc', 3)
  session.setSize('http://calc', 1)
  await waitUntil(() => session.cluster('http://calc').instances.length === 1)
  const error = catchThrown(() => session.setSize('http://nobody', 1))
  expect(error).toMatchObject({ code: 'MANYHOST_UNKNOWN_SERVICE' })
  expect(error.message).toContain('http://calc')
})

test('Y9, Y10: a size may be a function or a class; both are asked again and again', async () => {
  const fast = new Session({ tickInterval: 2 })
  const { provider } = createHoldingProvider()
  fast.startup({ url: 'http://calc', provider })
  let asked = 0
  fast.setSize('http://calc', (cluster) => {
    asked++
    return cluster.url === 'http://calc' ? 2 : 0
  })
  await waitUntil(() => asked > 3)
  let made = 0
  let read = 0
  class Balancer {
    constructor(cluster: Cluster) {
      made++
      expect(cluster.requestQueue.isEmpty).toBe(true)
    }
    valueOf(): number {
      read++
      return 1
    }
  }
  fast.setSize('http://calc', Balancer)
  await waitUntil(() => read > 3)
  expect(made).toBe(1)
  await fast.close()
})

test("Y11: the ancestor's load balancer, by its name", async () => {
  const { provider } = createHoldingProvider()
  session.startup({ url: 'http://calc', provider })
  session.setSize('http://calc', SimpleLoadBalancer)
  await waitForReady(session, 'http://calc', 3)
})

test('Y12: a service starts by itself, and once, however many clients there are', async () => {
  const { provider } = createHoldingProvider()
  session.startup({ url: 'http://calc', provider })
  await waitForReady(session, 'http://calc', 1)
  session.client()
  session.client()
  await runEventLoop()
  expect(provider.instances).toHaveLength(1)
})

test('Y13: close ends everything, and may be called twice', async () => {
  const { provider } = createHoldingProvider()
  session.startup({ url: 'http://calc', provider, initSize: 3 })
  await waitForReady(session, 'http://calc', 3)
  await Promise.all([session.close(), session.close()])
  expect([provider.instances.length, session.cluster('http://calc').instances]).toEqual([0, []])
})

test('Y14: what a load balancer sees of its cluster', async () => {
  const { provider, holds, held } = createHoldingProvider()
  const cluster = session.startup({ url: 'http://calc', provider })
  const answers = [1, 2, 3].map((n) => session.client().get(`http://calc/${n}`))
  await holds(1)
  expect(cluster.requestQueue).toMatchObject({ size: 2, isEmpty: false })
  expect(cluster.requestQueue.oldestAge).toBeGreaterThan(0)
  expect([cluster.size, cluster.instances.length, cluster.inFlight]).toEqual([1, 1, 1])
  for (let left = 3; left > 0; left--) {
    await holds(1)
    held[0]?.answer()
  }
  await Promise.all(answers)
  expect(cluster.stats()).toMatchObject({ arrivals: 3, completions: 3, failures: 0 })
})

test('Y15, Y16: what is missing starts side by side, what is too much ends side by side', async () => {
  const { provider } = createHoldingProvider()
  const mayStart = createLatch()
  const slow = { ...provider, capabilities: provider.capabilities }
  slow.start = async (spec, options) => {
    await mayStart.promise
    return provider.start(spec, options)
  }
  session.startup({ url: 'http://calc', provider: slow, initSize: 5 })
  await waitUntil(() => countStates(session, 'http://calc').starting === 5)
  mayStart.open()
  await waitForReady(session, 'http://calc', 5)
  session.setSize('http://calc', 0)
  await runEventLoop(1)
  expect(countStates(session, 'http://calc').ready).toBeUndefined()
})

test('Y17, Y18: an instance that ends is replaced, and its request sent again, once each', async () => {
  const { provider, holds, held, seen, kill } = createHoldingProvider()
  session.startup({ url: 'http://calc', provider })
  const answer = session.client().post('http://calc/job', { body: 'x' })
  await holds(1)
  kill()
  await holds(1)
  held[0]?.answer(201)
  expect((await answer).status).toBe(201)
  expect(seen).toEqual(['job', 'job'])
})

test('Y19: an instance serves one request at a time, and the idle one takes the next', async () => {
  const { provider, holds, held } = createHoldingProvider()
  session.startup({ url: 'http://calc', provider, initSize: 2 })
  await waitForReady(session, 'http://calc', 2)
  const answers = [1, 2, 3, 4].map((n) => session.client().get(`http://calc/${n}`))
  await holds(2)
  expect(new Set(held.map(({ instance }) => instance)).size).toBe(2)
  const [first, second] = held
  second?.answer()
  await waitUntil(() => held.some(({ name }) => name === '3'))
  expect(held.find(({ name }) => name === '3')?.instance).toBe(second?.instance)
  first?.answer()
  await waitUntil(() => held.some(({ name }) => name === '4'))
  for (const one of [...held]) one.answer()
  await Promise.all(answers)
})

test('Y20: a connection that cannot be made is tried elsewhere, and is no lost request', async () => {
  session.startup({ url: 'http://calc', command: service, initSize: 2 })
  const client = session.client()
  await waitForReady(session, 'http://calc', 2)
  const answers = Array.from({ length: 6 }, (_, i) =>
    i === 2 ? rejectionOf(client.get('http://calc/reset')) : client.get('http://calc/pid'),
  )
  const all = await Promise.all(answers)
  expect(all.map((one) => ('status' in one ? one.status : one))).toEqual([
    200, 200, 502, 200, 200, 200,
  ])
})

test('Y27: the calculator', async () => {
  const command = [pid, resolve('examples/calculator-server.js')]
  session.startup({ url: 'http://calc', command, ready: '/health' })
  expect(await (await session.client().get('http://calc/add/7/8')).text()).toBe('15')
})

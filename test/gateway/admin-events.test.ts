/** What does not end: the event stream, and logs that are followed. */
import { once } from 'node:events'
import { connect } from 'node:net'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { several } from '../../providers/several.ts'
import { faults, inProcess } from '../../providers/testing/index.ts'
import { type AgentEvent, Emitter } from '../../src/core/events.ts'
import { publishEvents } from '../../src/index.ts'
import { waitUntil } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'
import {
  type AdminFixture,
  EventStreamReader,
  JSON_TYPE,
  type Json,
  openAdminFixture,
  waitUntilReady,
} from './admin-fixture.ts'

expectNothingLeft()

let served: AdminFixture
const readers: EventStreamReader[] = []

function read(path: string): EventStreamReader {
  const reader = new EventStreamReader(served.url + path)
  readers.push(reader)
  return reader
}

beforeEach(async () => {
  served = await openAdminFixture({ version: '9.9.9' }, (req, res) => {
    if (req.url === '/crash') throw new Error('crash of a handler')
    res.end('ok')
  })
})
afterEach(async () => {
  vi.useRealTimers()
  for (const reader of readers.splice(0)) reader.close()
  await served[Symbol.asyncDispose]()
})

/** From now on a second passes when the test says so; instances that are up stay so. */
function holdTime(): { second(): void } {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] })
  return { second: () => void vi.advanceTimersByTime(1_000) }
}

function closed(): Promise<unknown> {
  return waitUntil(async () => (await connections(served)) === 0)
}

describe('events', () => {
  test('begin with the whole, and go on with what has changed', async () => {
    served.session.startup({ url: 'http://calc', initSize: 2 })
    served.session.startup({ url: 'http://idle', initSize: 0 })
    await waitUntilReady(served.session, 'http://calc', 2)
    const time = holdTime()
    const reader = read('/api/events')
    const headers = await reader.headers
    expect(headers.get('content-type')).toBe('text/event-stream')
    const whole = await reader.next('snapshot')
    expect(whole).toMatchObject({ whole: true, version: '9.9.9', interval: 1_000, failures: [] })
    expect(whole.clusters).toMatchObject([
      { name: 'calc', size: 2, states: { ready: 2 }, queue: 0, rate: 0, p50: null },
      { name: 'idle', size: 0, states: {} },
    ])
    const client = served.session.client()
    for (let i = 0; i < 10; i++) await (await client.get('http://calc/')).text()
    await waitUntil(() => served.session.cluster('http://calc').stats().completions === 10)
    time.second()
    const changed = await reader.next(
      'snapshot',
      ({ whole, clusters }) => !whole && clusters.length > 0,
    )
    expect(changed.clusters).toMatchObject([{ name: 'calc', p50: expect.any(Number) }])
    expect(changed.clusters[0].rate).toBe(10)
    // Then it is idle, and snapshots are a heartbeat only.
    time.second()
    time.second()
    await reader.next('snapshot', ({ whole, clusters }) => !whole && clusters.length === 0)
    await served.session.remove('http://idle')
    time.second()
    const gone = await reader.next('snapshot', ({ gone }) => gone !== undefined)
    expect(gone.gone).toEqual(['http://idle'])
  })

  test('are told as they happen', async () => {
    served.session.startup({ url: 'http://calc', initSize: 1 })
    await waitUntilReady(served.session, 'http://calc', 1)
    const reader = read('/api/events')
    await reader.next('snapshot')
    await served.ask('/api/clusters/calc/size', {
      method: 'PUT',
      headers: JSON_TYPE,
      body: '{"size":2}',
    })
    expect(await reader.next('cluster')).toMatchObject({
      service: 'http://calc',
      change: 'resized',
      size: 2,
    })
    await reader.next('instance', ({ state }) => state === 'ready')
    served.provider.instances[0]?.kill('power cut')
    const failed = await reader.next('instance', ({ state }) => state === 'failed')
    expect(failed).toMatchObject({ from: 'ready', reason: 'power cut' })
    const told = await reader.next('snapshot', ({ failures }) => failures?.length > 0)
    expect(told.failures).toMatchObject([{ kind: 'instance', text: 'power cut', count: 1 }])
  })

  test('are the very messages that a feed carries, agents too, and those once', async () => {
    const carried: object[] = []
    publishEvents(served.session, {
      publish: (channel, text) => carried.push({ channel, ...JSON.parse(text) }),
    })
    const agents = new Emitter<{ agent: AgentEvent }>('agents')
    const withAgents = Object.assign(
      inProcess(() => 'ok'),
      {
        onAgent: (listener: (event: AgentEvent) => void) => agents.on('agent', listener),
      },
    )
    const reader = read('/api/events')
    await reader.next('snapshot')
    const options = { maxAttempts: 1, provider: withAgents }
    served.session.startup({ url: 'http://calc', ...options })
    const both = several([withAgents, served.provider])
    served.session.startup({ url: 'http://more', initSize: 0, provider: both })
    await waitUntilReady(served.session, 'http://calc', 1)
    agents.emit('agent', { agent: 'far', change: 'came', at: 1 })
    withAgents.instances[0]?.freeze()
    const lost = served.session.client().get('http://calc/')
    await waitUntil(() => served.session.cluster('http://calc').inFlight === 1)
    withAgents.instances[0]?.kill('power cut')
    await expect(lost).rejects.toThrow()
    await served.session.remove('http://calc')
    await served.session.remove('http://more')
    await waitUntil(
      () => reader.events.filter(({ event }) => event !== 'snapshot').length === carried.length,
    )
    const told = reader.events
      .filter(({ event }) => event !== 'snapshot')
      .map(({ event, data }) => ({ channel: `manyhost.${event}`, ...data }))
    expect(told).toEqual(carried)
    const kinds = told.map(({ channel }) => channel.replace('manyhost.', ''))
    expect([...new Set(kinds)].sort()).toEqual(['agent', 'cluster', 'instance', 'request'])
    expect(kinds.filter((kind) => kind === 'agent')).toHaveLength(1)
    await served.session.close()
    expect(agents.hasListeners('agent')).toBe(false)
  })

  test('tell what failed before anybody looked, repeats counted', async () => {
    const provider = faults(served.provider, { kill: { percentage: 100, after: 'request' } })
    served.session.startup({ url: 'http://calc', provider, maxAttempts: 3 })
    const client = served.session.client()
    await expect(client.get('http://calc/')).rejects.toMatchObject({
      code: 'MANYHOST_ATTEMPTS_EXHAUSTED',
    })
    provider.set({ startFailure: { percentage: 100 } })
    served.session.startup({ url: 'http://broken', provider })
    await waitUntil(() => served.session.cluster('http://broken').starts.failedCount > 2)
    const { failures } = await read('/api/events').next('snapshot')
    const kinds = failures.map(({ kind }: { kind: string }) => kind)
    expect(kinds).toContain('resend')
    const start = failures.find(
      ({ service, kind }: Record<string, string>) =>
        kind === 'error' && service === 'http://broken',
    )
    expect(start).toMatchObject({ code: 'MANYHOST_START_FAILED' })
    expect(start.count).toBeGreaterThan(1)
  })

  test('of a fleet that starts are not told one by one', async () => {
    const time = holdTime()
    const reader = read('/api/events')
    await reader.next('snapshot')
    let count = 0
    for (const name of ['instance', 'cluster'] as const) served.session.on(name, () => count++)
    for (let i = 0; i < 20; i++) {
      served.session.startup({ url: `http://s${i}`, initSize: 50, maxStarting: 50 })
    }
    for (let i = 0; i < 20; i++) await waitUntilReady(served.session, `http://s${i}`, 50)
    time.second()
    const told = await reader.next('snapshot', ({ skipped }) => skipped > 0)
    expect(told.skipped).toBe(count - 500)
    expect(told.skipped).toBeGreaterThan(1_000)
    expect(reader.events.filter(({ event }) => event !== 'snapshot')).toHaveLength(500)
    expect(told.clusters.map(({ states }: Json) => states.ready)).toEqual(Array(20).fill(50))
  })

  test('stop being gathered when nobody reads, and begin anew', async () => {
    served.session.startup({ url: 'http://calc' })
    const first = read('/api/events')
    await first.next('snapshot')
    first.close()
    await closed()
    served.session.startup({ url: 'http://late', initSize: 0 })
    const { clusters } = await read('/api/events').next('snapshot')
    expect(clusters.map(({ name }: { name: string }) => name)).toEqual(['calc', 'late'])
  })

  test('have so many readers and no more', async () => {
    for (let i = 0; i < 64; i++) await read('/api/events').headers
    const { status, headers } = await served.ask('/api/events')
    expect([status, headers['retry-after']]).toEqual([503, '1'])
    for (const reader of readers.splice(0)) reader.close()
    await closed()
    expect((await served.ask('/api/events', { method: 'HEAD' })).status).toBe(200)
  })
})

function connections({ server }: AdminFixture): Promise<number> {
  return new Promise((resolve, reject) => {
    server.getConnections((error, count) => (error ? reject(error) : resolve(count)))
  })
}

describe('logs', () => {
  test('of an instance: the last lines, and what follows until it ends', async () => {
    served.session.startup({ url: 'http://calc' })
    await waitUntilReady(served.session, 'http://calc', 1)
    const [instance] = served.session.cluster('http://calc').instances
    instance?.output.append('one\ntwo\nthree\n')
    const path = `/api/clusters/calc/instances/${instance?.id}/logs`
    const all = await served.ask(path)
    expect([all.headers['content-type'], all.text]).toEqual([
      'text/plain; charset=utf-8',
      'one\ntwo\nthree\n',
    ])
    expect((await served.ask(`${path}?lines=2`)).text).toBe('two\nthree\n')
    for (const query of ['lines=0', 'lines=-1', 'lines=x', 'follow=2']) {
      expect((await served.ask(`${path}?${query}`)).status, query).toBe(400)
    }
    const reader = read(`${path}?follow=1&lines=1`)
    await reader.waitForText(/^three\n$/)
    await (await served.session.client().get('http://calc/crash')).text()
    await reader.waitForText(/^three\nError: crash of a handler\n/)
    served.provider.instances[0]?.kill()
    await waitUntil(() => reader.isOver)
  })

  test('of a cluster: each line after its instance, those of new instances too', async () => {
    served.session.startup({ url: 'http://calc' })
    await waitUntilReady(served.session, 'http://calc', 1)
    const cluster = served.session.cluster('http://calc')
    const [first] = cluster.instances
    first?.output.append('early\nhalf')
    expect((await served.ask('/api/clusters/calc/logs')).text).toBe(
      `${first?.id} | early\n${first?.id} | half\n`,
    )
    const reader = read('/api/clusters/calc/logs?follow')
    await reader.waitForText(/early/)
    first?.output.append(' a line\n')
    await reader.waitForText(new RegExp(`${first?.id} \\| half a line\n`))
    served.session.setSize('http://calc', 2)
    await waitUntilReady(served.session, 'http://calc', 2)
    const second = cluster.instances[1]
    second?.output.append('hello\nrest without an end')
    await reader.waitForText(new RegExp(`${second?.id} \\| hello\n`))
    served.provider.instances[1]?.kill()
    await reader.waitForText(new RegExp(`${second?.id} \\| rest without an end\n`))
    await served.session.remove('http://calc')
    await waitUntil(() => reader.isOver)
  })

  test('drop a reader that does not read', { timeout: 30_000 }, async () => {
    // Of events the same holds: both are written by the one Outflow.
    served.session.startup({ url: 'http://calc' })
    await waitUntilReady(served.session, 'http://calc', 1)
    const [instance] = served.session.cluster('http://calc').instances
    const socket = connect(served.port, '127.0.0.1')
    await once(socket, 'connect')
    expect(await connections(served)).toBeGreaterThan(0)
    socket.on('error', () => undefined)
    socket.write(
      `GET /api/clusters/calc/instances/${instance?.id}/logs?follow=1 HTTP/1.1\r\nHost: localhost\r\n\r\n`,
    )
    await once(socket, 'readable')
    socket.pause()
    const writing = setInterval(() => instance?.output.append(`${'x'.repeat(99_999)}\n`), 1)
    await closed()
    clearInterval(writing)
    socket.destroy()
    expect((await served.ask('/livez')).status).toBe(200)
  })
})

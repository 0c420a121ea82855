/** The session on its feed. */
import { expect, test } from 'vitest'
import { inProcess } from '../../providers/testing/index.ts'
import { Emitter, type SessionEvents } from '../../src/core/events.ts'
import { Feed, FeedClient } from '../../src/feed/index.ts'
import { EVENTS_VERSION, ManyhostError, publishEvents, Session } from '../../src/index.ts'
import { serveFrom } from '../../src/tasks.ts'
import { useFalseClock } from '../clock.ts'
import { catchThrown, waitForReady, waitUntil } from '../help.ts'
import { portOf } from './help.ts'

const provider = () => inProcess(() => new Response('ok'))

test('a subscriber anywhere hears what becomes of instances, clusters and requests', async () => {
  const identities = { eye: { secret: 's', subscribe: ['manyhost.*'] } }
  const session = new Session({
    provider: provider(),
    feed: { endpoints: '127.0.0.1:0', identities, patterns: true, history: 100 },
  })
  const [url = ''] = (await session.feed?.listen()) ?? []
  const eye = new FeedClient({ port: portOf(url), ident: 'eye', secret: 's', settle: 20 })
  const channels = ['instance', 'cluster', 'request'].map((name) => `manyhost.${name}`)
  eye.subscribe(...channels)
  const heard: Record<string, unknown>[] = []
  const reading = (async () => {
    for await (const { channel, payload } of eye) {
      heard.push({ channel, ...JSON.parse(payload.toString()) })
    }
  })()
  await eye.ready()
  await waitUntil(async () => (await session.metrics.metrics()).includes('chan="manyhost.request"'))
  session.startup({ url: 'http://calc', initSize: 1 })
  await waitForReady(session, 'http://calc', 1)
  await session.close()
  await waitUntil(() => eye.state !== 'connected')
  const states = heard.filter(({ event }) => event === 'instance').map(({ state }) => state)
  expect(states).toContain('ready')
  expect(states.at(-1)).toBe('stopped')
  const changes = heard.filter(({ event }) => event === 'cluster').map(({ change }) => change)
  expect(changes[0]).toBe('added')
  expect(changes.at(-1)).toBe('closed')
  for (const { v, channel, event, at, host, service } of heard) {
    expect([v, channel]).toEqual([EVENTS_VERSION, `manyhost.${event}`])
    expect([typeof at, typeof host, service]).toEqual(['number', 'string', 'http://calc'])
  }
  await eye.close()
  await reading
})

test('a feed of somebody else is told, and left open', async () => {
  await using feed = new Feed()
  await feed.listen()
  const seen: string[] = []
  feed.subscribe('manyhost.cluster', ({ payload }) => seen.push(JSON.parse(String(payload)).change))
  const session = new Session({ provider: provider(), feed })
  session.startup({ url: 'http://calc', initSize: 0 })
  await session.close()
  expect(seen).toEqual(['added', 'closed'])
  expect(feed.isClosed).toBe(false)
})

function requests(count: number, outcome: 'answered' | 'failed', options: object): number {
  const emitter = new Emitter<SessionEvents>('session')
  let told = 0
  publishEvents(emitter, { publish: () => told++ }, options)
  for (let i = 0; i < count; i++) {
    const event = { service: 's', id: 'i', method: 'GET', path: '/', outcome, status: 200 }
    emitter.emit('request', { ...event, duration: 1, attempts: 1, at: 1 })
  }
  return told
}

test('requests are sampled, those that failed are told all, and neither drowns the feed', () => {
  useFalseClock()
  let turn = 0
  const random = (): number => (turn++ % 100) / 100
  expect(requests(200, 'answered', { sample: 0.1, random })).toBe(20)
  expect(requests(50, 'failed', { sample: 0 })).toBe(50)
  expect(requests(10_000, 'failed', { requestsPerSecond: 10 })).toBe(10)
})

test('errors are told without their stacks, long texts by their end, and a closed feed harms nobody', async () => {
  const emitter = new Emitter<SessionEvents>('session')
  const said: Record<string, unknown>[] = []
  publishEvents(emitter, { publish: (_, text) => said.push(JSON.parse(text)) })
  emitter.emit('error', new ManyhostError('MANYHOST_START_FAILED', 'x', { service: 'http://a' }))
  expect(said[0]).toMatchObject({ event: 'error', code: 'MANYHOST_START_FAILED', retryable: true })
  expect(said[0]).not.toHaveProperty('stack')
  const event = { service: 's', instance: 'i', state: 'failed', provider: 'p', at: 1 } as const
  emitter.emit('instance', { ...event, output: `${'x'.repeat(2_000_000)}end` })
  expect(String(said[1]?.output)).toMatch(/^\.\.\.x+end$/)
  const feed = new Feed()
  const off = publishEvents(emitter, feed)
  await feed.close()
  emitter.emit('instance', event)
  off()
  expect(catchThrown(() => publishEvents(emitter, feed, { sample: 2 })).message).toContain(
    'from 0 to 1',
  )
})

test('a server of tasks tells on the feed of its session what became of them', async () => {
  const session = new Session({ provider: provider() })
  session.startup({ url: 'http://calc' })
  const told: Record<string, unknown>[] = []
  publishEvents(
    session,
    {
      publish: (channel, text) => {
        if (channel === 'manyhost.task') told.push(JSON.parse(text))
      },
    },
    { sample: 1 },
  )
  const source = ['GET http://calc/1', 'GET http://nobody/2']
  const options = { session, kind: 'request', inMemory: true, maxRetries: 1 } as const
  const counts = await serveFrom(source, options)
  expect(counts).toMatchObject({ succeeded: 1, retried: 1, failed: 1 })
  expect(told.map(({ outcome, attempt }) => [outcome, attempt]).sort()).toEqual([
    ['failed', 2],
    ['retried', 1],
    ['succeeded', 1],
  ])
  for (const one of told) {
    expect(one).toMatchObject({ v: EVENTS_VERSION, event: 'task', sample: 1 })
    expect(Object.keys(one)).toEqual(expect.arrayContaining(['task', 'group', 'exitStatus']))
    // A command line may have secrets in it.
    expect(JSON.stringify(one)).not.toContain('http://')
  }
  await session.close()
})

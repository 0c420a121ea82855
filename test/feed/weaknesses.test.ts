import { expect, test } from 'vitest'
import { OPCODE, publishFrame, publishPrefix, subscribeFrame } from '../../src/feed/frame.ts'
import { Feed, FeedClient, type IdentitySource } from '../../src/feed/index.ts'
import { useFalseClock } from '../clock.ts'
import { createLatch, rejectionOf, runEventLoop, waitUntil } from '../help.ts'
import {
  IDENTITIES,
  openFeed,
  openFeedClient,
  portOf,
  RawFeedPeer,
  readMetric,
  socketPath,
} from './help.ts'

const ERRORS = 'manyhost_feed_connection_error_total'
const publish = (ident: string, channel: string, payload: string | Buffer): Buffer =>
  publishFrame(publishPrefix(ident, channel), payload)

test.each([0, 1, 4, -1, 282, 2_000_000_000])(
  'weakness 1: a first frame that says %i bytes ends its connection, and nothing else',
  async (length) => {
    await using feed = await openFeed()
    const raw = new RawFeedPeer(feed.port)
    await raw.next()
    const header = Buffer.alloc(5)
    header.writeInt32BE(length)
    header[4] = OPCODE.publish
    raw.write(header)
    expect(await raw.words()).toBe('')
    expect(await readMetric(feed, ERRORS, { category: 'invalid-frame' })).toBe(1)
    await using alice = openFeedClient(feed.port)
    await alice.ready()
  },
)

test('weakness 2: subscribe twice and disconnect leaves nothing behind', async () => {
  await using feed = await openFeed()
  const raw = new RawFeedPeer(feed.port)
  const subscribe = subscribeFrame('alice', 'ch1')
  raw.write(await raw.auth('alice', 's3cret'), subscribe, subscribe)
  await waitUntil(async () => (await readMetric(feed, 'manyhost_feed_subscriptions')) === 1)
  raw.socket.destroy()
  await waitUntil(() => feed.connections === 0)
  expect(await readMetric(feed, 'manyhost_feed_subscriptions')).toBe(0)
  await using alice = openFeedClient(feed.port)
  alice.subscribe('ch1')
  for (let i = 0; i < 10; i++) alice.publish('ch1', String(i))
  for (let i = 0; i < 10; i++) expect((await alice.read()).payload.toString()).toBe(String(i))
})

test('weakness 3: subscribe twice and unsubscribe once is not subscribed', async () => {
  await using feed = await openFeed()
  const raw = new RawFeedPeer(feed.port)
  const frame = subscribeFrame('alice', 'ch1')
  const unsubscribe = Buffer.from(frame)
  unsubscribe[4] = OPCODE.unsubscribe
  raw.write(await raw.auth('alice', 's3cret'), frame, frame, unsubscribe)
  raw.write(subscribeFrame('alice', 'ch2'))
  raw.write(publish('alice', 'ch1', 'no'), publish('alice', 'ch2', 'yes'))
  expect((await raw.next()).body.subarray(10).toString()).toBe('yes')
  raw.socket.destroy()
})

test('weakness 4: a wrong secret is told with the words of the broker, and not tried again', async () => {
  await using feed = await openFeed()
  const alice = openFeedClient(feed.port, 'alice', { secret: 'wrong' })
  const error = await rejectionOf(alice.read())
  expect(error.code).toBe('MANYHOST_FEED_REFUSED')
  expect(error.message).toContain('Authentication failed for alice')
  expect(alice.state).toBe('refused')
  expect(() => alice.publish('ch1', 'x')).toThrow(/Authentication failed/)
  expect(() => alice.subscribe('ch1')).toThrow(/Authentication failed/)
  expect((await rejectionOf(alice.ready())).code).toBe('MANYHOST_FEED_REFUSED')
  await expect(alice[Symbol.asyncIterator]().next()).rejects.toThrow(/Authentication failed/)
  await alice.close()
  expect(await readMetric(feed, 'manyhost_feed_connection_made_total')).toBe(1)
})

test('weakness 4: a refusal that nobody was told of is thrown by close', async () => {
  await using feed = await openFeed()
  const bob = openFeedClient(feed.port, 'bob')
  bob.publish('ch1', 'bob may not')
  const error = await rejectionOf(bob.close())
  expect(error.message).toContain('Authkey not allowed to pub here. ident=bob, chan=ch1')
})

test('weakness 5: ready means accepted, not that a proof was sent', async () => {
  const asked = createLatch()
  const answer = createLatch()
  const identities: IdentitySource = {
    async find(ident) {
      asked.open()
      await answer.promise
      return { ident, secret: 's3cret', publish: [], subscribe: [] }
    },
  }
  await using feed = await openFeed({ identities })
  const wrong = openFeedClient(feed.port, 'alice', { secret: 'wrong', settle: 60_000 })
  const refused = rejectionOf(wrong.ready())
  await asked.promise
  expect(wrong.state).toBe('connecting')
  answer.open()
  expect((await refused).code).toBe('MANYHOST_FEED_REFUSED')
})

test('weakness 6: a broker that hangs up before INFO, or is not there, and close', async () => {
  const { createServer } = await import('node:net')
  let connections = 0
  const server = createServer((socket) => {
    connections++
    socket.destroy()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  const alice = openFeedClient(port, 'alice', { retryMax: 5, closeTimeout: 10 })
  await waitUntil(() => connections >= 3)
  const reading = rejectionOf(alice.read())
  alice.publish('ch1', 'x')
  await alice.close()
  expect((await reading).code).toBe('MANYHOST_FEED_CLOSED')
  expect(alice.dropped).toBe(1)
  server.close()
  const nowhere = openFeedClient(port, 'alice', { closeTimeout: 10 })
  await nowhere.close()
  expect(nowhere.state).toBe('closed')
})

test('weakness 6: a broker that accepts and says nothing is given up, and tried again', async () => {
  const { createServer } = await import('node:net')
  const server = createServer(() => undefined)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  const alice = openFeedClient(port, 'alice', { connectTimeout: 20, closeTimeout: 10 })
  const reasons: string[] = []
  alice.on('disconnected', ({ reason }) => reasons.push(reason))
  await waitUntil(() => reasons.length >= 2)
  expect(reasons[0]).toContain('sent nothing within 20 ms')
  await alice.close()
  server.close()
})

test('weakness 7: what is published without a connection waits, by the rule, and is counted', async () => {
  const options = { port: 1, ident: 'a', secret: 'b', closeTimeout: 0, retryMin: 60_000 }
  const frame = publish('a', 'c', 'x').length
  const oldest = new FeedClient({ ...options, bufferLimit: frame * 3 })
  for (const text of ['1', '2', '3', '4', '5']) oldest.publish('c', text)
  expect([oldest.waiting, oldest.dropped]).toEqual([3, 2])
  const strict = new FeedClient({ ...options, bufferLimit: frame, drop: 'error' })
  strict.publish('c', '1')
  expect(() => strict.publish('c', '2')).toThrow(
    expect.objectContaining({ code: 'MANYHOST_FEED_FULL', retryable: true }),
  )
  await strict.close()
  await oldest.close()
  expect([oldest.dropped, strict.dropped]).toEqual([5, 1])
})

test("weakness 7: drop: 'newest' keeps what came first", async () => {
  const path = socketPath()
  const frame = publish('alice', 'ch1', 'x').length
  await using alice = openFeedClient(path, 'alice', { bufferLimit: frame * 2, drop: 'newest' })
  for (const text of ['1', '2', '3']) alice.publish('ch1', text)
  expect([alice.waiting, alice.dropped]).toEqual([2, 1])
  await using feed = new Feed({ endpoints: { path }, identities: IDENTITIES })
  const seen: string[] = []
  feed.subscribe('ch1', ({ payload }) => seen.push(payload.toString()))
  await feed.listen()
  await waitUntil(() => seen.length === 2)
  expect(seen).toEqual(['1', '2'])
})

test('weakness 8: a channel that is not allowed is not subscribed for a moment', async () => {
  await using feed = await openFeed()
  const raw = new RawFeedPeer(feed.port)
  const subscribe = subscribeFrame('bob', 'ch2')
  raw.write(await raw.auth('bob', 'b0b'), subscribe)
  expect(await raw.words()).toBe('Authkey not allowed to sub here. ident=bob, chan=ch2')
  feed.publish('ch2', 'secret')
  expect(await readMetric(feed, 'manyhost_feed_subscriptions')).toBe(0)
  expect(raw.frames.filter(({ opcode }) => opcode === OPCODE.publish)).toEqual([])
})

test('weakness 9: strangers and wrong secrets get the same words; the challenge may be longer', async () => {
  await using feed = await openFeed({ nonceSize: 20 })
  await using alice = openFeedClient(feed.port)
  await alice.ready()
  for (const ident of ['alice', 'nobody']) {
    const raw = new RawFeedPeer(feed.port)
    await raw.login(ident, 'wrong')
    expect(await raw.words()).toBe(`Authentication failed for ${ident}`)
  }
  expect(await readMetric(feed, ERRORS, { ident: '', category: 'invalid-ident' })).toBe(1)
  expect(await readMetric(feed, ERRORS, { ident: '', category: 'invalid-secret' })).toBe(1)
})

test('weakness 10: it listens on IPv6 too, and says who was there', async () => {
  await using feed = await openFeed({ endpoints: ['[::1]:0', '127.0.0.1:0'] })
  const addresses: string[] = []
  feed.on('connected', ({ address }) => addresses.push(address))
  for (const [index, host] of ['::1', '127.0.0.1'].entries()) {
    const port = portOf(feed.urls[index] ?? '')
    await using one = openFeedClient(port, 'alice', { host })
    one.subscribe('ch1')
    one.publish('ch1', host)
    expect((await one.read()).payload.toString()).toBe(host)
  }
  expect(addresses.map((address) => address.split(' ')[0])).toEqual(['::1', '127.0.0.1'])
})

test('weakness 11: a client that is not read stops reading, and goes on where it was', async () => {
  await using feed = await openFeed()
  await using alice = openFeedClient(feed.port, 'alice', { readLimit: 100_000 })
  alice.subscribe('ch1')
  await waitUntil(async () => (await readMetric(feed, 'manyhost_feed_subscriptions')) === 1)
  const count = 1_200
  for (let i = 0; i < count; i++) feed.publish('ch1', Buffer.alloc(10_000, i % 250))
  // Sockets hold some MB; the rest of the 12 MB waits at the broker.
  const size = 'manyhost_feed_connection_send_buffer_size'
  await waitUntil(async () => (await readMetric(feed, size, { ident: 'alice' })) > 500_000)
  for (let i = 0; i < count; i++) expect((await alice.read()).payload[0]).toBe(i % 250)
  expect(await readMetric(feed, 'manyhost_feed_dropped_total', { ident: 'alice' })).toBe(0)
})

test('weakness 11: a subscriber that never reads is bounded, and ended by the deadline', async () => {
  const clock = useFalseClock()
  await using feed = await openFeed({ bufferLimit: 2_097_152, deadline: 1_000 })
  const raw = new RawFeedPeer(feed.port)
  raw.write(await raw.auth('bob', 'b0b'), subscribeFrame('bob', 'ch1'))
  await waitUntil(async () => (await readMetric(feed, 'manyhost_feed_subscriptions')) === 1)
  raw.socket.pause()
  const labels = { ident: 'bob' }
  // The system takes some MB first, in its own time.
  await waitUntil(async () => {
    feed.publish('ch1', Buffer.alloc(100_000))
    await runEventLoop(1)
    return (await readMetric(feed, 'manyhost_feed_dropped_total', labels)) > 200
  }, '200 messages are dropped')
  const size = 'manyhost_feed_connection_send_buffer_size'
  expect(await readMetric(feed, size, labels)).toBeLessThanOrEqual(2_097_152)
  await clock.pass(999)
  expect(feed.connections).toBe(1)
  await clock.pass(1)
  // Last words cannot reach it, either.
  await clock.pass(1_000)
  await waitUntil(() => feed.connections === 0)
  const expired = { ident: 'bob', category: 'deadline-timer-expired' }
  expect(await readMetric(feed, ERRORS, expired)).toBe(1)
})

test('weakness 11: a slow subscriber that catches up is not ended', async () => {
  await using feed = await openFeed({ bufferLimit: 4_194_304, deadline: 60_000 })
  const raw = new RawFeedPeer(feed.port)
  raw.write(await raw.auth('bob', 'b0b'), subscribeFrame('bob', 'ch1'))
  await waitUntil(async () => (await readMetric(feed, 'manyhost_feed_subscriptions')) === 1)
  raw.socket.pause()
  const started = 'manyhost_feed_connection_send_buffer_deadline_start_total'
  while ((await readMetric(feed, started, { ident: 'bob' })) === 0) {
    feed.publish('ch1', Buffer.alloc(100_000))
  }
  raw.socket.resume()
  const recovered = 'manyhost_feed_connection_send_buffer_deadline_recover_total'
  await waitUntil(async () => (await readMetric(feed, recovered, { ident: 'bob' })) === 1)
  expect(feed.connections).toBe(1)
  raw.socket.destroy()
})

test('weakness 11: connections that open and do nothing are ended, and too many refused', async () => {
  const clock = useFalseClock()
  await using feed = await openFeed({ connections: 3, authTimeout: 300 })
  const idle = [1, 2, 3].map(() => new RawFeedPeer(feed.port))
  await Promise.all(idle.map((raw) => raw.next()))
  const fourth = new RawFeedPeer(feed.port)
  expect(await fourth.words()).toBe('Too many connections')
  await clock.pass(299)
  expect(feed.connections).toBe(3)
  await clock.pass(1)
  for (const raw of idle) expect(await raw.words()).toBe('Authentication timed out')
  expect(await readMetric(feed, ERRORS, { category: 'auth-timeout' })).toBe(3)
})

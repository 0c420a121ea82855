/** A client and a broker, over real sockets: what is said is heard. */
import { expect, test } from 'vitest'
import { Feed, type FeedMessage } from '../../src/feed/index.ts'
import { createLatch, rejectionOf, runEventLoop, waitUntil } from '../help.ts'
import { IDENTITIES, openFeed, openFeedClient, portOf, readMetric, socketPath } from './help.ts'

/** Waits until so many subscriptions are there. */
async function subscribed(feed: Feed, count: number): Promise<void> {
  await waitUntil(async () => {
    const metric = await feed.metrics.getSingleMetric('manyhost_feed_subscriptions')?.get()
    return metric?.values.reduce((sum, { value }) => sum + value, 0) === count
  }, `${count} subscriptions`)
}

test('a message reaches all subscribers, the publisher too, with the name of the publisher', async () => {
  await using feed = await openFeed()
  await using alice = openFeedClient(feed.port)
  await using bob = openFeedClient(feed.port, 'bob')
  alice.subscribe('ch1')
  bob.subscribe('ch1')
  await subscribed(feed, 2)
  alice.publish('ch1', Buffer.from([0, 255, 10]))
  for (const one of [alice, bob]) {
    const { ident, channel, payload } = await one.read()
    expect([ident, channel, [...payload]]).toEqual(['alice', 'ch1', [0, 255, 10]])
  }
  expect(alice.broker).toBe('manyhost')
})

test('what is published before there is a connection comes, in order', async () => {
  await using feed = await openFeed()
  await using hears = openFeedClient(feed.port)
  hears.subscribe('ch1')
  await subscribed(feed, 1)
  {
    await using says = openFeedClient(feed.port, 'eve', { closeTimeout: 60_000 })
    for (let i = 0; i < 1_000; i++) says.publish('ch1', String(i))
  }
  for (let i = 0; i < 1_000; i++) expect((await hears.read()).payload.toString()).toBe(String(i))
})

test('what is said before a hang-up counts, however long the look-up takes', async () => {
  const answers = [createLatch(), createLatch()]
  let asked = 0
  const identities = {
    async find(ident: string) {
      await answers[asked++]?.promise
      return { ident, secret: 's3cret', publish: ['ch1'], subscribe: [] }
    },
  }
  await using feed = await openFeed({ identities })
  const heard: string[] = []
  feed.subscribe('ch1', ({ payload }) => heard.push(payload.toString()))
  const says = openFeedClient(feed.port, 'alice', { closeTimeout: 60_000 })
  for (let i = 0; i < 300; i++) says.publish('ch1', String(i))
  const closed = says.close()
  await waitUntil(() => asked === 1)
  await runEventLoop()
  answers[0]?.open()
  await closed
  await waitUntil(() => heard.length === 300)
  expect(heard).toEqual(Array.from({ length: 300 }, (_, i) => String(i)))
  const may = openFeedClient(feed.port, 'alice', { closeTimeout: 60_000 })
  may.publish('ch2', 'not allowed')
  const refused = rejectionOf(may.close())
  await waitUntil(() => asked === 2)
  await runEventLoop()
  answers[1]?.open()
  expect((await refused).message).toContain('not allowed to pub here')
})

test('payloads of 0 bytes and of the longest length', async () => {
  await using feed = await openFeed()
  await using alice = openFeedClient(feed.port)
  alice.subscribe('ch1')
  await subscribed(feed, 1)
  const longest = 1_048_576 - 1 - 'alice'.length - 1 - 'ch1'.length
  alice.publish('ch1', '')
  alice.publish('ch1', Buffer.alloc(longest, 1))
  expect((await alice.read()).payload).toHaveLength(0)
  expect((await alice.read()).payload).toHaveLength(longest)
  expect(() => alice.publish('ch1', Buffer.alloc(longest + 1))).toThrow(/too long/)
})

test('iteration gives what comes, and ends at close while it waits (weakness 6)', async () => {
  await using feed = await openFeed()
  const alice = openFeedClient(feed.port)
  alice.subscribe('ch1')
  await subscribed(feed, 1)
  const seen: string[] = []
  const done = (async () => {
    for await (const { payload } of alice) seen.push(payload.toString())
  })()
  feed.publish('ch1', 'one')
  feed.publish('ch1', 'two')
  await waitUntil(() => seen.length === 2)
  const reading = rejectionOf(alice.read())
  await alice.close()
  await done
  expect(seen).toEqual(['one', 'two'])
  expect((await reading).code).toBe('MANYHOST_FEED_CLOSED')
  expect((await rejectionOf(alice.read())).code).toBe('MANYHOST_FEED_CLOSED')
  expect(() => alice.publish('ch1', 'x')).toThrow(/closed/)
})

test('unsubscribe is heard, once for however many subscribes (weakness 3)', async () => {
  await using feed = await openFeed()
  await using alice = openFeedClient(feed.port)
  alice.subscribe('ch1', 'ch2')
  alice.subscribe('ch1')
  await subscribed(feed, 2)
  alice.unsubscribe('ch1')
  await subscribed(feed, 1)
  alice.publish('ch1', 'not heard')
  alice.publish('ch2', 'heard')
  expect((await alice.read()).payload.toString()).toBe('heard')
})

test('publishFrom takes what comes, and no faster than it is sent', async () => {
  await using feed = await openFeed()
  await using alice = openFeedClient(feed.port)
  alice.subscribe('ch1')
  await subscribed(feed, 1)
  let made = 0
  async function* source() {
    for (; made < 300; made++) yield Buffer.alloc(65_536, made % 251)
  }
  const published = alice.publishFrom('ch1', source())
  for (let i = 0; i < 300; i++) {
    const { payload } = await alice.read()
    expect(payload[0]).toBe(i % 251)
    expect(made - i).toBeLessThan(299)
  }
  expect(await published).toBe(300)
  expect(alice.dropped).toBe(0)
})

test('several clients merged, mapped, filtered and published again', async () => {
  const brokers = await Promise.all([openFeed(), openFeed(), openFeed()])
  await using output = await openFeed()
  await using hears = openFeedClient(output.port)
  hears.subscribe('ch2')
  await subscribed(output, 1)
  const sources = brokers.map(({ port }) => openFeedClient(port))
  for (const source of sources) source.subscribe('ch1')
  for (const [index, feed] of brokers.entries()) {
    await subscribed(feed, 1)
    feed.publish('ch1', JSON.stringify({ from: index, hashes: [] }))
    feed.publish('ch1', JSON.stringify({ from: index, hashes: ['x'] }))
  }
  const { Readable } = await import('node:stream')
  async function* merge(all: readonly AsyncIterable<FeedMessage>[]) {
    const streams = all.map((one) => one[Symbol.asyncIterator]())
    const pending = new Map(streams.map((one) => [one, one.next().then((got) => ({ one, got }))]))
    while (pending.size > 0) {
      const { one, got } = await Promise.race(pending.values())
      if (got.done) pending.delete(one)
      else {
        pending.set(
          one,
          one.next().then((next) => ({ one, got: next })),
        )
        yield got.value
      }
    }
  }
  await using relay = openFeedClient(output.port)
  const done = relay.publishFrom(
    'ch2',
    Readable.from(merge(sources))
      .map(({ payload }: FeedMessage) => JSON.parse(payload.toString()))
      .filter(({ hashes }) => hashes.length > 0)
      .map((data) => JSON.stringify(data)),
  )
  const seen = new Set<number>()
  for (let i = 0; i < 3; i++) seen.add(JSON.parse((await hears.read()).payload.toString()).from)
  expect([...seen].sort()).toEqual([0, 1, 2])
  for (const one of [...sources, ...brokers]) await one.close()
  expect(await done).toBe(3)
})

test('over a unix socket, over IPv6, and by the notation of the original', async () => {
  const path = socketPath()
  await using feed = new Feed({
    endpoints: [`unix:${path}`, '[::1]:0', 'tcp:interface=127.0.0.1:port=0'],
    identities: IDENTITIES,
  })
  const urls = await feed.listen()
  expect(urls[0]).toBe(`unix:${path}`)
  expect(urls[1]).toMatch(/^tcp:\/\/\[::1\]:\d+$/)
  await using local = openFeedClient(path)
  await using six = openFeedClient(portOf(urls[1] ?? ''), 'alice', { host: '::1' })
  local.subscribe('ch1')
  await subscribed(feed, 1)
  six.publish('ch1', 'x')
  expect((await local.read()).payload.toString()).toBe('x')
  await six.ready()
})

test('the socket that a killed broker left is taken over, a living one is not', async () => {
  const path = socketPath()
  await using first = new Feed({ endpoints: { path } })
  await first.listen()
  await using second = new Feed({ endpoints: { path } })
  expect((await rejectionOf(second.listen())).message).toContain('it is taken by another program')
})

test('within the process: subscribe and publish without any socket', async () => {
  await using feed = new Feed()
  await feed.listen()
  const seen: string[] = []
  const off = feed.subscribe('a', ({ ident, payload }) => seen.push(`${ident}: ${payload}`))
  feed.publish('a', 'one')
  feed.publish('b', 'nobody')
  off()
  feed.publish('a', 'two')
  expect(seen).toEqual(['manyhost: one'])
  expect(await readMetric(feed, 'manyhost_feed_receive_publish_count_total', { chan: 'a' })).toBe(2)
})

test('close lets a reader get what waits for it, and clients come again to a new broker', async () => {
  const path = socketPath()
  const feed = await openFeed({ endpoints: { path }, closeTimeout: 60_000 })
  await using alice = openFeedClient(path)
  alice.subscribe('ch1')
  await alice.ready()
  await subscribed(feed, 1)
  for (let i = 0; i < 500; i++) feed.publish('ch1', Buffer.alloc(10_000, 7))
  const closed = feed.close()
  for (let i = 0; i < 500; i++) expect((await alice.read()).payload).toHaveLength(10_000)
  await closed
  expect(feed.health().status).toBe('closed')
  await waitUntil(() => alice.state === 'waiting')
  await using again = await openFeed({ endpoints: { path } })
  await subscribed(again, 1)
  again.publish('ch1', 'again')
  expect((await alice.read()).payload.toString()).toBe('again')
})

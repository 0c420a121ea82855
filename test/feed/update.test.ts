/** A feed that is given other options while it runs: who may come, what he may, and what is kept. */
import { createServer } from 'node:http'
import { expect, onTestFinished, test } from 'vitest'
import { OPCODE, publishFrame, publishPrefix, subscribeFrame } from '../../src/feed/frame.ts'
import { Feed, feedHandler, type IdentitySource } from '../../src/feed/index.ts'
import { createLatch, rejectionOf, waitUntil } from '../help.ts'
import { IDENTITIES, openFeed, openFeedClient, RawFeedPeer, readMetric } from './help.ts'

const subscriptions = (feed: Feed, ident: string, chan = 'ch1') =>
  readMetric(feed, 'manyhost_feed_subscriptions', { ident, chan })

test('who is here is looked up anew: rights hold at once, strangers are ended', async () => {
  await using feed = await openFeed()
  await using alice = openFeedClient(feed.port)
  alice.subscribe('ch1')
  await waitUntil(async () => (await subscriptions(feed, 'alice')) === 1)
  // That the broker knows her tells nothing of what she knows: its yes is silence.
  await alice.ready()
  const losses: string[] = []
  alice.on('disconnected', ({ reason }) => losses.push(reason))
  const bob = new RawFeedPeer(feed.port)
  bob.write(await bob.auth('bob', 'b0b'), subscribeFrame('bob', 'ch1'))
  const eve = new RawFeedPeer(feed.port)
  await eve.login('eve', 'ev3')
  const hears = new RawFeedPeer(feed.port)
  hears.write(await hears.auth('alice', 's3cret'), subscribeFrame('alice', 'ch2'))
  const ready = 'manyhost_feed_connection_ready_total'
  await waitUntil(async () => (await readMetric(feed, ready, { ident: 'eve' })) === 1)
  await waitUntil(async () => (await subscriptions(feed, 'bob')) === 1)
  await waitUntil(async () => (await subscriptions(feed, 'alice', 'ch2')) === 1)
  const identities = {
    alice: { secret: 's3cret', publish: ['ch1', 'ch3'], subscribe: ['ch1', 'ch3'] },
    eve: { secret: 'another', publish: ['ch1'] },
    carol: { secret: 'c', subscribe: ['ch1'] },
  }
  expect(await feed.update({ identities })).toEqual(['endpoints'])
  expect(await bob.words()).toBe('Authentication failed for bob')
  expect(await eve.words()).toBe('Authentication failed for eve')
  expect(await hears.words()).toBe('Authkey not allowed to sub here. ident=alice, chan=ch2')
  alice.subscribe('ch3')
  alice.publish('ch3', 'new')
  expect((await alice.read()).channel).toBe('ch3')
  expect([alice.state, losses]).toEqual(['connected', []])
  const carol = new RawFeedPeer(feed.port)
  carol.write(await carol.auth('carol', 'c'), subscribeFrame('carol', 'ch1'))
  await waitUntil(async () => (await subscriptions(feed, 'carol')) === 1)
  alice.publish('ch1', 'hello')
  expect((await carol.next()).opcode).toBe(OPCODE.publish)
  expect((await alice.read()).payload.toString()).toBe('hello')
  alice.publish('ch2', 'not any more')
  const words = 'Authkey not allowed to pub here. ident=alice, chan=ch2'
  expect((await rejectionOf(alice.read())).message).toContain(words)
  carol.socket.destroy()
})

test('a right to publish that was used a moment ago is gone', async () => {
  await using feed = await openFeed()
  const heard: string[] = []
  feed.subscribe('ch1', ({ payload }) => heard.push(payload.toString()))
  const raw = new RawFeedPeer(feed.port)
  const say = (text: string) => publishFrame(publishPrefix('alice', 'ch1'), text)
  raw.write(await raw.auth('alice', 's3cret'), say('one'))
  await waitUntil(() => heard.length === 1)
  await feed.update({ identities: { alice: { secret: 's3cret', subscribe: ['ch1'] } } })
  raw.write(say('two'))
  expect(await raw.words()).toBe('Authkey not allowed to pub here. ident=alice, chan=ch1')
  expect(heard).toEqual(['one'])
})

test('what cannot be begins nothing: all is as it was', async () => {
  await using feed = await openFeed()
  await using alice = openFeedClient(feed.port)
  alice.subscribe('ch1')
  alice.publish('ch1', 'x')
  await alice.read()
  const broken: IdentitySource = {
    find: () => undefined,
    start: () => Promise.reject(new Error('no such file')),
  }
  expect((await rejectionOf(feed.update({ identities: broken }))).message).toBe('no such file')
  const wrong = feed.update({ identities: {}, history: -1 })
  expect((await rejectionOf(wrong)).code).toBe('MANYHOST_INVALID_OPTION')
  alice.publish('ch1', 'y')
  expect((await alice.read()).payload.toString()).toBe('y')
  await using again = openFeedClient(feed.port)
  again.publish('ch1', 'z')
  expect((await alice.read()).payload.toString()).toBe('z')
})

test('sources: the new one is started, the old one closed, a look-up under way is of the new one', async () => {
  const asked = createLatch()
  const answer = createLatch()
  const calls: string[] = []
  const source = (name: string, find: IdentitySource['find']): IdentitySource => ({
    find,
    start: () => void calls.push(`${name} starts`),
    close: () => void calls.push(`${name} closes`),
  })
  const slow = source('slow', async (ident) => {
    asked.open()
    await answer.promise
    return { ident, secret: 's3cret', publish: [], subscribe: [] }
  })
  const feed = await openFeed({ identities: slow })
  const raw = new RawFeedPeer(feed.port)
  await raw.login('alice', 's3cret')
  await asked.promise
  await feed.update({ identities: source('strict', () => undefined) })
  answer.open()
  expect(await raw.words()).toBe('Authentication failed for alice')
  await feed.close()
  expect(calls).toEqual(['slow starts', 'strict starts', 'slow closes', 'strict closes'])
  expect((await rejectionOf(feed.update({}))).code).toBe('MANYHOST_FEED_CLOSED')
})

test('a source that cannot tell of somebody leaves him as he is', async () => {
  await using feed = await openFeed()
  const errors: string[] = []
  feed.on('error', ({ message }) => errors.push(message))
  await using alice = openFeedClient(feed.port)
  alice.subscribe('ch1')
  alice.publish('ch1', 'x')
  await alice.read()
  await feed.update({ identities: { find: () => Promise.reject(new Error('away')) } })
  expect(errors).toEqual(['away'])
  alice.publish('ch1', 'y')
  expect((await alice.read()).payload.toString()).toBe('y')
})

test('names what needs another feed, and leaves it as it was', async () => {
  await using feed = new Feed({ endpoints: '127.0.0.1:0', name: 'one' })
  const [url = ''] = await feed.listen()
  expect(await feed.update({ endpoints: '[::1]:0', name: 'two' })).toEqual(['endpoints', 'name'])
  expect([feed.urls, feed.name]).toEqual([[url], 'one'])
  expect(await feed.update({ endpoints: '127.0.0.1:0', name: 'one', connections: 1 })).toEqual([])
  const first = new RawFeedPeer(Number(new URL(url).port))
  await first.next()
  expect(await new RawFeedPeer(Number(new URL(url).port)).words()).toBe('Too many connections')
  first.socket.destroy()
})

test('the history is as long as it is told, and has a gap where it was off', async () => {
  await using feed = new Feed({ history: 3 })
  await feed.listen()
  for (const text of ['1', '2', '3']) feed.publish('a', text)
  const kept = (from = 0) => {
    const { messages, isWhole } = feed.messagesSince(['a'], from)
    return [messages.map(({ payload }) => payload.toString()), isWhole]
  }
  expect(kept()).toEqual([['1', '2', '3'], true])
  await feed.update({ history: 2 })
  expect(kept()).toEqual([['2', '3'], false])
  expect(kept(1)).toEqual([['2', '3'], true])
  const before = feed.sequence
  await feed.update({ history: 0 })
  expect(kept(1)).toEqual([[], false])
  feed.publish('a', 'nobody keeps it')
  await feed.update({ history: 5 })
  expect(kept(before)).toEqual([[], false])
  const after = feed.sequence
  feed.publish('a', '4')
  expect(kept(after)).toEqual([['4'], true])
})

test('over HTTP: a stream ends when its reader may not hear it any more', async () => {
  await using feed = new Feed({ identities: IDENTITIES })
  await feed.listen()
  const server = createServer(feedHandler(feed))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => void server.close())
  const { port } = server.address() as { port: number }
  const open = async (ident: keyof typeof IDENTITIES) => {
    const token = Buffer.from(`${ident}:${IDENTITIES[ident].secret}`).toString('base64')
    const headers = { authorization: `Basic ${token}` }
    const answer = await fetch(`http://127.0.0.1:${port}/?channel=ch1`, { headers })
    expect(answer.status).toBe(200)
    return { rest: answer.text() }
  }
  const bob = await open('bob')
  const alice = await open('alice')
  feed.publish('ch1', 'one')
  await feed.update({ identities: { bob: IDENTITIES.bob } })
  expect(await alice.rest).toContain('"text":"one"')
  feed.publish('ch1', 'two')
  await feed.close()
  expect(await bob.rest).toContain('"text":"two"')
  expect(await alice.rest).not.toContain('"text":"two"')
})

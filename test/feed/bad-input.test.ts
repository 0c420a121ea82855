/** What no peer should say, and what becomes of it. What the originals fail on is in weaknesses.test.ts. */
import { connect, type Socket } from 'node:net'
import { expect, test } from 'vitest'
import {
  authFrame,
  errorFrame,
  hashSecret,
  infoFrame,
  OPCODE,
  publishFrame,
  publishPrefix,
  subscribeFrame,
} from '../../src/feed/frame.ts'
import { Feed, FeedClient, type IdentitySource } from '../../src/feed/index.ts'
import { useFalseClock } from '../clock.ts'
import { waitUntil } from '../help.ts'
import { openFeed, openFeedClient, portOf, RawFeedPeer, readMetric } from './help.ts'

const publish = (ident: string, channel: string, payload: string | Buffer): Buffer =>
  publishFrame(publishPrefix(ident, channel), payload)

test('the first frame must be AUTH, and AUTH comes once', async () => {
  await using feed = await openFeed()
  const first = new RawFeedPeer(feed.port)
  first.write(subscribeFrame('alice', 'ch1'))
  expect(await first.words()).toBe('First message was not AUTH')
  const twice = new RawFeedPeer(feed.port)
  const auth = await twice.auth('alice', 's3cret')
  twice.write(auth, auth)
  expect(await twice.words()).toBe('Already authenticated')
})

test('AUTH that does not wait for INFO proves nothing', async () => {
  await using feed = await openFeed()
  const early = new RawFeedPeer(feed.port)
  early.write(authFrame('alice', hashSecret(Buffer.alloc(4), 's3cret')))
  expect(await early.words()).toBe('Authentication failed for alice')
})

test('an ident of no letters at all is nobody, and a proof of another length none', async () => {
  await using feed = await openFeed()
  const nobody = new RawFeedPeer(feed.port)
  await nobody.login('', 's3cret')
  expect(await nobody.words()).toBe('Authentication failed for ')
  for (const size of [0, 19, 21]) {
    const short = new RawFeedPeer(feed.port)
    await short.next()
    short.write(authFrame('alice', Buffer.alloc(size)))
    expect(await short.words()).toMatch(/^$|^Authentication failed for alice$/)
  }
})

test.each([
  ['split at every byte', 1],
  ['glued', Number.POSITIVE_INFINITY],
])('frames that are %s are what they are whole', async (_, size) => {
  await using feed = await openFeed()
  const raw = new RawFeedPeer(feed.port)
  raw.socket.setNoDelay(true)
  const auth = await raw.auth('alice', 's3cret')
  const sent = ['', 'x', 'y'.repeat(300)].map((text) => publish('alice', 'ch1', text))
  const stream = Buffer.concat([auth, subscribeFrame('alice', 'ch1'), ...sent])
  for (let at = 0; at < stream.length; at += size) {
    await new Promise((resolve) => raw.socket.write(stream.subarray(at, at + size), resolve))
  }
  for (const frame of sent) expect((await raw.next()).body).toEqual(frame.subarray(5))
  raw.socket.destroy()
})

test.each([
  [1_048_581, true],
  [1_048_582, false],
])('a PUBLISH that says %i bytes: %s', async (length, isTaken) => {
  await using feed = await openFeed()
  const heard: number[] = []
  feed.subscribe('ch1', ({ payload }) => heard.push(payload.length))
  const raw = new RawFeedPeer(feed.port)
  const frame = Buffer.alloc(length)
  publish('alice', 'ch1', '').copy(frame)
  frame.writeInt32BE(length)
  raw.write(await raw.auth('alice', 's3cret'), frame)
  if (isTaken) await waitUntil(() => heard.length === 1)
  else expect(await raw.words()).toBe('')
  expect(heard).toEqual(isTaken ? [length - 5 - 'alice'.length - 1 - 'ch1'.length - 1] : [])
  raw.socket.destroy()
})

test("publishing under another's name, and where it is not allowed", async () => {
  await using feed = await openFeed()
  const heard: string[] = []
  feed.subscribe('ch1', ({ payload }) => heard.push(payload.toString()))
  const forger = new RawFeedPeer(feed.port)
  const good = publish('alice', 'ch1', 'good')
  forger.write(await forger.auth('alice', 's3cret'), good, publish('bob', 'ch1', 'forged'), good)
  expect(await forger.words()).toBe('Invalid authkey in message, ident=bob')
  expect(heard).toEqual(['good'])
  const eve = new RawFeedPeer(feed.port)
  eve.write(await eve.auth('eve', 'ev3'), publish('eve', 'ch2', 'x'))
  expect(await eve.words()).toBe('Authkey not allowed to pub here. ident=eve, chan=ch2')
})

test.each([
  ['not UTF-8', Buffer.from([0, 0, 0, 9, 3, 1, 255, 1, 255])],
  ['longer than the frame', Buffer.from([0, 0, 0, 8, 3, 200, 97, 98])],
  ['an unknown opcode', Buffer.from([0, 0, 0, 5, 6])],
])('after AUTH, %s ends the connection without a word', async (_, bytes) => {
  await using feed = await openFeed()
  const raw = new RawFeedPeer(feed.port)
  raw.write(await raw.auth('alice', 's3cret'), bytes)
  expect(await raw.words()).toBe('')
})

test('idents and channels of 255 bytes, and channels that are empty or of any letters', async () => {
  const ident = 'é'.repeat(127)
  const long = 'x'.repeat(255)
  const names = [long, '', 'a b\n', '雪']
  const identities = { [ident]: { secret: 's', publish: names, subscribe: names } }
  await using feed = await openFeed({ identities })
  await using one = new FeedClient({ port: feed.port, ident, secret: 's' })
  one.subscribe(...names)
  for (const name of names) one.publish(name, name)
  for (const name of names) {
    const message = await one.read()
    expect([message.ident, message.channel, message.payload.toString()]).toEqual([
      ident,
      name,
      name,
    ])
  }
  expect(() => one.subscribe(`${long}x`)).toThrow(/255 bytes/)
  expect(() => one.publish(`${long}x`, '')).toThrow(/255 bytes/)
})

test('frames that come with AUTH while it is looked up are not lost', async () => {
  const identities: IdentitySource = {
    find: async (ident) => {
      await new Promise((resolve) => setImmediate(resolve))
      return { ident, secret: 's', publish: ['c'], subscribe: ['c'] }
    },
  }
  await using feed = await openFeed({ identities })
  const raw = new RawFeedPeer(feed.port)
  const auth = await raw.auth('a', 's')
  raw.write(auth, subscribeFrame('a', 'c'), publish('a', 'c', Buffer.alloc(50_000, 1)))
  expect((await raw.next()).body).toHaveLength(50_004)
  raw.socket.destroy()
})

test('an identity source that fails is reported, and refuses nobody for good', async () => {
  const identities: IdentitySource = { find: () => Promise.reject(new Error('no database')) }
  await using feed = await openFeed({ identities })
  const errors: Error[] = []
  feed.on('error', (error) => errors.push(error))
  const raw = new RawFeedPeer(feed.port)
  await raw.login('alice', 'x')
  expect(await raw.words()).toBe('Authentication is not possible now for alice')
  expect(errors.map(({ message }) => message)).toEqual(['no database'])
})

test('a publisher that floods does not keep others from being heard', async () => {
  await using feed = await openFeed()
  await using bob = openFeedClient(feed.port, 'bob')
  bob.subscribe('ch1')
  await waitUntil(async () => (await readMetric(feed, 'manyhost_feed_subscriptions')) === 1)
  const flood = new RawFeedPeer(feed.port)
  flood.write(await flood.auth('alice', 's3cret'))
  const bytes = Buffer.concat(Array.from({ length: 5_000 }, () => publish('alice', 'ch2', 'flood')))
  let isOver = false
  const pour = (): void => {
    while (!isOver && flood.socket.write(bytes));
    if (!isOver) flood.socket.once('drain', pour)
  }
  pour()
  await using eve = openFeedClient(feed.port, 'eve')
  for (let i = 0; i < 20; i++) eve.publish('ch1', String(i))
  for (let i = 0; i < 20; i++) expect((await bob.read()).payload.toString()).toBe(String(i))
  isOver = true
  flood.socket.destroy()
})

test('by pattern where it is asked for, and else not', async () => {
  const identities = { a: { secret: 's', publish: ['logs.*'], subscribe: ['*.end', 'x*y*z'] } }
  for (const [patterns, words] of [
    [true, ''],
    [false, 'Authkey not allowed to sub here. ident=a, chan=logs.end'],
  ] as const) {
    await using feed = await openFeed({ identities, patterns })
    const raw = new RawFeedPeer(feed.port)
    raw.write(await raw.auth('a', 's'), subscribeFrame('a', 'logs.end'))
    raw.write(publish('a', 'logs.end', 'x'))
    if (patterns) {
      expect((await raw.next()).opcode).toBe(OPCODE.publish)
      raw.write(subscribeFrame('a', 'xyy'))
      expect(await raw.words()).toContain('chan=xyy')
    } else expect(await raw.words()).toBe(words)
  }
})

test('what a client says that a broker never says is no end of it', async () => {
  await using feed = await openFeed()
  const raw = new RawFeedPeer(feed.port)
  raw.write(await raw.auth('alice', 's3cret'), Buffer.from('0000000700', 'hex'), Buffer.from('no'))
  raw.write(subscribeFrame('alice', 'ch1'), publish('alice', 'ch1', 'still here'))
  expect((await raw.next()).body.subarray(10).toString()).toBe('still here')
  raw.socket.destroy()
})

test('words that do not end the connection are an event, and nothing more', async () => {
  const { createServer } = await import('node:net')
  const server = createServer((socket) => {
    socket.write(Buffer.from('0000000b0101620000000000000700', 'hex').subarray(0, 11))
    socket.write(Buffer.from('00000009007761697400'.slice(0, 18), 'hex'))
    socket.on('error', () => undefined)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const alice = openFeedClient((server.address() as { port: number }).port, 'alice', {
    closeTimeout: 10,
  })
  const words: string[] = []
  alice.on('error', ({ message }) => words.push(message))
  await waitUntil(() => words.length === 1)
  expect(words[0]).toContain('wait')
  expect(alice.state).toBe('connecting')
  await alice.close()
  server.close()
})

test('words that did not end the connection are not why it ends later', async () => {
  const clock = useFalseClock()
  const { createServer } = await import('node:net')
  const sockets: Socket[] = []
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    sockets.push(socket)
    socket.write(Buffer.concat([infoFrame('b', Buffer.alloc(4)), errorFrame('be brief')]))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  const alice = openFeedClient(port, 'alice', { settle: 250, retryMin: 60_000 })
  const words: string[] = []
  const losses: string[] = []
  alice.on('error', ({ message }) => words.push(message))
  alice.on('disconnected', ({ reason }) => losses.push(reason))
  await waitUntil(() => words.length === 1)
  await clock.pass(4_999)
  expect(alice.state).toBe('connecting')
  await clock.pass(1)
  expect(alice.state).toBe('connected')
  sockets[0]?.destroy()
  await waitUntil(() => losses.length === 1)
  expect([alice.state, losses[0]]).toEqual(['waiting', 'the broker closed the connection'])
  await clock.passUntil(1_000, () => words.length === 2)
  // A message is as good as time.
  sockets[1]?.write(publish('bob', 'c', 'x'))
  expect((await alice.read()).payload.toString()).toBe('x')
  expect(alice.state).toBe('connected')
  sockets[1]?.destroy()
  await waitUntil(() => losses.length === 2)
  expect(alice.state).toBe('waiting')
  await alice.close()
  server.close()
})

test('options are refused with their range', async () => {
  expect(() => new FeedClient({ ident: 'a' } as never)).toThrow(/secret is missing/)
  expect(() => new FeedClient({ ident: 'x'.repeat(256), secret: 's' })).toThrow(/1 to 255 bytes/)
  expect(() => new Feed({ endpoints: 'tls:port=1' })).toThrow(/needs key= and cert=/)
  expect(() => new Feed({ endpoints: 'tcp:port=1:color=red' })).toThrow(/interface=, port=/)
  expect(() => new Feed({ endpoints: 'nonsense' })).toThrow(/an endpoint must be/)
  expect(() => new Feed({ identities: { a: { publish: [] } } as never })).toThrow(/secret must be/)
  expect(() => new Feed({ bufferLimit: 1 })).toThrow(/from 2097152 up/)
  await using feed = new Feed({ endpoints: { port: 0 } })
  const [url = ''] = await feed.listen()
  const socket = connect(portOf(url), '127.0.0.1')
  await new Promise((resolve) => socket.once('data', resolve))
  socket.destroy()
})

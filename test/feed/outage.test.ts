/** Identities that cannot be asked for a while: nobody is refused for it, and who came meanwhile comes again. */
import { createServer } from 'node:http'
import { expect, onTestFinished, test } from 'vitest'
import { type Feed, feedHandler, fromMemory, type IdentitySource } from '../../src/feed/index.ts'
import { useFalseClock } from '../clock.ts'
import { createLatch, rejectionOf, waitUntil } from '../help.ts'
import { IDENTITIES, openFeed, openFeedClient, RawFeedPeer, readMetric } from './help.ts'

const ERRORS = 'manyhost_feed_connection_error_total'
const UNCHECKED = { ident: '', category: 'error-checking-ident' }
const NOT_NOW = 'Authentication is not possible now for alice'

/** A source that answers in its own time, or fails, as it is told. */
function source() {
  const people = fromMemory(IDENTITIES)
  let answer = async (): Promise<void> => undefined
  let asked = 0
  const identities: IdentitySource = {
    async find(ident) {
      asked++
      await answer()
      return people.find(ident)
    },
  }
  return {
    identities,
    asked: () => asked,
    answers(next: () => Promise<void>): void {
      answer = next
    },
  }
}

const fails = () => Promise.reject(new Error('no database'))
const heals = () => Promise.resolve()

/** Records the refusals and the errors of a feed. */
function recordRefusals(feed: Feed) {
  const messages = new Set<string>()
  const errors = new Set<string>()
  feed.on('refused', (event) => messages.add(`${event.category}: ${event.message}`))
  feed.on('error', ({ message }) => errors.add(message))
  return { messages, errors }
}

test('an outage is passed by trying again, ever later; what was published meanwhile comes, in order', async () => {
  const { identities, answers } = source()
  answers(fails)
  await using feed = await openFeed({ identities })
  const { messages, errors } = recordRefusals(feed)
  const waits: number[] = []
  await using alice = openFeedClient(feed.port, 'alice', { settle: 60_000, random: () => 1 })
  alice.on('disconnected', ({ reason, retryIn }) => {
    expect(reason).toBe(NOT_NOW)
    waits.push(retryIn)
  })
  alice.subscribe('ch1')
  alice.publish('ch1', 'before the first attempt')
  await waitUntil(() => waits.length === 1)
  alice.publish('ch1', 'between two attempts')
  await waitUntil(() => waits.length === 4)
  expect(waits).toEqual([5, 10, 20, 40])
  expect([...messages]).toEqual([`error-checking-ident: ${NOT_NOW}`])
  expect([...errors]).toEqual(['no database'])
  expect(await readMetric(feed, ERRORS, UNCHECKED)).toBe(4)
  answers(heals)
  expect((await alice.read()).payload.toString()).toBe('before the first attempt')
  expect((await alice.read()).payload.toString()).toBe('between two attempts')
  expect([alice.state, alice.dropped]).toEqual(['connected', 0])
})

test('a wrong secret is final as before, also after an outage', async () => {
  const { identities, answers } = source()
  answers(fails)
  await using feed = await openFeed({ identities })
  const alice = openFeedClient(feed.port, 'alice', { secret: 'wrong' })
  await new Promise((resolve) => alice.on('disconnected', resolve))
  answers(heals)
  expect((await rejectionOf(alice.read())).message).toContain('Authentication failed for alice')
  await alice.close()
})

test('an outage that shows late: what was sent into it is counted, and silence is not believed again', async () => {
  const clock = useFalseClock()
  const { identities, answers, asked } = source()
  const first = createLatch()
  const second = createLatch()
  answers(() => first.promise.then(fails))
  await using feed = await openFeed({ identities, authTimeout: 100_000 })
  const alice = openFeedClient(feed.port, 'alice', { connectTimeout: 60_000, closeTimeout: 60_000 })
  let accepted = 0
  alice.on('connected', () => accepted++)
  alice.subscribe('ch1')
  alice.publish('ch1', 'sent before it was believed')
  await waitUntil(() => asked() === 1)
  await clock.pass(20)
  expect([alice.state, accepted]).toEqual(['connected', 1])
  alice.publish('ch1', 'sent after it was')
  await alice.flush()
  answers(() => second.promise.then(fails))
  first.open()
  await waitUntil(() => alice.state === 'waiting')
  expect(alice.dropped).toBe(2)
  await clock.passUntil(1, () => asked() === 2)
  alice.publish('ch1', 'kept')
  await clock.pass(50_000)
  expect([alice.state, accepted]).toEqual(['connecting', 1])
  answers(heals)
  second.open()
  await waitUntil(() => alice.state === 'waiting')
  await clock.passUntil(1, () => asked() === 3)
  expect((await alice.read()).payload.toString()).toBe('kept')
  expect([alice.state, accepted, alice.dropped]).toEqual(['connected', 2, 2])
  await alice.close()
})

test('of what is sent to a broker that has not accepted it, a client keeps no more than it may', async () => {
  const { identities, answers } = source()
  const answer = createLatch()
  answers(() => answer.promise.then(fails))
  await using feed = await openFeed({ identities })
  const bufferLimit = 500_000
  const alice = openFeedClient(feed.port, 'alice', {
    settle: 60_000,
    bufferLimit,
    closeTimeout: 0,
    // A second attempt would send on trust again, before the counts are read.
    retryMin: 60_000,
  })
  const publish = (count: number): void => {
    for (let i = 0; i < count; i++) alice.publish('ch1', Buffer.alloc(10_000))
  }
  // 256 KiB are sent on trust, the rest waits.
  publish(40)
  await waitUntil(() => alice.waiting === 13)
  publish(30)
  expect([alice.waiting, alice.dropped]).toEqual([43, 0])
  answer.open()
  await waitUntil(() => alice.state === 'waiting')
  expect([alice.waiting, alice.dropped]).toEqual([49, 21])
  await alice.close()
  expect(alice.dropped).toBe(70)
})

test('a client that is closed during an outage says what was lost', async () => {
  const { identities, answers, asked } = source()
  const answer = createLatch()
  answers(() => answer.promise.then(fails))
  await using feed = await openFeed({ identities })
  const alice = openFeedClient(feed.port, 'alice', { settle: 60_000, closeTimeout: 60_000 })
  alice.publish('ch1', 'x')
  const closed = alice.close()
  await waitUntil(() => asked() === 1)
  answer.open()
  await closed
  expect([alice.state, alice.dropped, alice.waiting]).toEqual(['closed', 1, 0])
})

test('identities that give no answer in time are an outage, too', async () => {
  const clock = useFalseClock()
  const { identities, answers, asked } = source()
  answers(() => new Promise(() => undefined))
  await using feed = await openFeed({ identities, authTimeout: 300 })
  const { messages, errors } = recordRefusals(feed)
  const raw = new RawFeedPeer(feed.port)
  await raw.login('alice', 's3cret')
  await waitUntil(() => asked() === 1)
  await clock.pass(300)
  expect(await raw.words()).toBe('Authentication timed out')
  expect([...messages]).toEqual(['error-checking-ident: Authentication timed out'])
  expect([...errors]).toEqual(['the identity source did not answer within 300 ms'])
  expect(await readMetric(feed, ERRORS, UNCHECKED)).toBe(1)
})

test('over HTTP an outage is 503, told and counted, and no 401', async () => {
  const { identities, answers } = source()
  await using feed = await openFeed({ identities })
  const { errors } = recordRefusals(feed)
  const server = createServer(feedHandler(feed))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as { port: number }
  const post = () =>
    fetch(`http://127.0.0.1:${port}/?channel=ch1`, {
      method: 'POST',
      headers: { authorization: `Basic ${Buffer.from('alice:s3cret').toString('base64')}` },
      body: 'x',
    })
  answers(fails)
  const { status, headers } = await post()
  expect([status, headers.get('retry-after')]).toEqual([503, '5'])
  expect([...errors]).toEqual(['no database'])
  expect(await readMetric(feed, ERRORS, UNCHECKED)).toBe(1)
  answers(heals)
  expect((await post()).status).toBe(204)
})

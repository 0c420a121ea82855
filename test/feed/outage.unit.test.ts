/** What an outage of the identities leaves to decide: what the broker's words mean, and what goes again. */
import { expect, test } from 'vitest'
import {
  AUTH_TIMED_OUT,
  classifyBrokerError,
  formatLookupFailed,
} from '../../src/feed/broker-messages.ts'
import { type DropPolicy, FeedOutbox } from '../../src/feed/outbox.ts'

test.each([
  [formatLookupFailed('alice'), 'unprocessed'],
  [AUTH_TIMED_OUT, 'unprocessed'],
  ['Too many connections', 'temporary'],
  ['Server is shutting down', 'temporary'],
  ['Backpressure deadline timer expired', 'temporary'],
  ['Authentication failed for alice', 'refused'],
  // An ident is whatever somebody chose.
  ['Authentication failed for Authentication timed out', 'refused'],
  ['Authkey not allowed to pub here. ident=alice, chan=Backpressure', 'refused'],
  ['', 'refused'],
])('%j: %s', (message, kind) => {
  expect(classifyBrokerError(message)).toBe(kind)
})

function filled(limit: number, drop: DropPolicy, texts: readonly string[]): FeedOutbox {
  const outbox = new FeedOutbox(limit, drop)
  for (const text of texts) outbox.put(Buffer.from(text))
  return outbox
}

function rest(outbox: FeedOutbox): string {
  let all = ''
  for (let frame = outbox.take(); frame; frame = outbox.take()) all += frame
  return all
}

test.each<[DropPolicy, string, number]>([
  ['oldest', 'bcd', 1],
  ['newest', 'abc', 1],
  // It was thrown for when it was published, if at all: by now nobody is there to be told.
  ['error', 'abc', 1],
])('what comes back goes first, within the limit, by the rule: %s', (drop, left, dropped) => {
  const outbox = filled(3, drop, ['a', 'b', 'c'])
  const taken = [outbox.take(), outbox.take()] as Buffer[]
  outbox.put(Buffer.from('d'))
  expect(outbox.putBack(taken)).toBe(dropped)
  expect([outbox.size, outbox.bytes]).toEqual([3, 3])
  expect(rest(outbox)).toBe(left)
})

test('nothing that comes back changes nothing', () => {
  const outbox = filled(3, 'oldest', ['a', 'b', 'c'])
  expect(outbox.putBack([])).toBe(0)
  expect(rest(outbox)).toBe('abc')
})

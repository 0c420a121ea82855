/** What has come and was not read yet: when its source is to pause, and when it is to go on. */
import { expect, test } from 'vitest'
import { Inbox } from '../../src/feed/inbox.ts'

/** Each costs 128 bytes beside its payload. */
const message = (text: string) => ({
  ident: 'alice',
  channel: 'ch1',
  payload: Buffer.from(text.padEnd(72)),
})

test('full, it asks for more only when half of it is free: a pause a message would cost more than it saves', () => {
  let asked = 0
  const inbox = new Inbox(2_000, () => asked++)
  for (let i = 0; i < 10; i++) inbox.put(message(String(i)))
  expect(inbox.isFull).toBe(true)
  const askedAfter: number[] = []
  for (let i = 0; i < 10; i++) {
    inbox.take()
    askedAfter.push(asked)
  }
  expect(askedAfter).toEqual([0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
  expect(inbox.isFull).toBe(false)
})

test('below its limit, it asks for nothing', () => {
  let asked = 0
  const inbox = new Inbox(2_000, () => asked++)
  for (let i = 0; i < 9; i++) inbox.put(message(String(i)))
  expect(inbox.isFull).toBe(false)
  while (inbox.take());
  expect(asked).toBe(0)
})

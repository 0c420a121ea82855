/** The feed over HTTP: events out, messages in, and what was missed. */
import { createServer } from 'node:http'
import { expect, onTestFinished, test } from 'vitest'
import type { FeedOptions } from '../../src/feed/broker-options.ts'
import { Feed, type FeedHandlerOptions, feedHandler } from '../../src/feed/index.ts'
import { waitUntil } from '../help.ts'
import { IDENTITIES } from './help.ts'

async function open(options: FeedOptions = {}, handlerOptions: FeedHandlerOptions = {}) {
  const feed = new Feed({ identities: IDENTITIES, ...options })
  await feed.listen()
  const server = createServer(feedHandler(feed, handlerOptions))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(async () => {
    await feed.close()
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  const { port } = server.address() as { port: number }
  return { feed, url: `http://127.0.0.1:${port}/feed` }
}

const basic = (ident: keyof typeof IDENTITIES): string =>
  `Basic ${Buffer.from(`${ident}:${IDENTITIES[ident].secret}`).toString('base64')}`
const as = (ident: keyof typeof IDENTITIES) => ({ authorization: basic(ident) })

interface Event {
  readonly id?: string
  readonly event?: string
  readonly data?: { readonly [key: string]: string }
}

/** A stream, and its events as they come. */
async function listen(url: string, headers: Record<string, string>) {
  const controller = new AbortController()
  const response = await fetch(url, { headers, signal: controller.signal })
  expect(response.headers.get('content-type')).toContain('text/event-stream')
  const events: Event[] = []
  let isOver = false
  const reading = (async () => {
    let text = ''
    const decoder = new TextDecoder()
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
      text += decoder.decode(chunk, { stream: true })
      const parts = text.split('\n\n')
      text = parts.pop() ?? ''
      for (const part of parts) {
        const fields = part.split('\n').map((row) => row.split(/: ?(.*)/s, 2))
        const { data, ...rest } = Object.fromEntries(fields)
        events.push({ ...rest, ...(data && { data: JSON.parse(data) }) })
      }
    }
  })()
    .catch(() => undefined)
    .finally(() => {
      isOver = true
    })
  const close = async (): Promise<void> => {
    controller.abort()
    await reading
  }
  return { events, close, isOver: () => isOver, messages: () => events.filter(({ data }) => data) }
}

test('what is posted is heard, as text or base64', async () => {
  const { feed, url } = await open()
  const { messages, close } = await listen(`${url}?channel=ch1&channel=ch2`, as('alice'))
  const post = (channel: string, body: string | Buffer) =>
    fetch(`${url}?channel=${channel}`, { method: 'POST', headers: as('alice'), body })
  expect((await post('ch1', 'line\nbreak')).status).toBe(204)
  expect((await post('ch2', Buffer.from([255]))).status).toBe(204)
  feed.publish('ch1', 'of the process')
  await waitUntil(() => messages().length === 3)
  expect(messages().map(({ data }) => data)).toEqual([
    { ident: 'alice', channel: 'ch1', text: 'line\nbreak' },
    { ident: 'alice', channel: 'ch2', base64: '/w==' },
    { ident: 'manyhost', channel: 'ch1', text: 'of the process' },
  ])
  await close()
})

test('who is not known, or may not, is refused', async () => {
  const { url } = await open({}, { bodySize: 10, channels: 2 })
  const status = async (query: string, init: RequestInit = {}): Promise<number> => {
    const response = await fetch(url + query, init)
    await response.body?.cancel()
    return response.status
  }
  expect(await status('?channel=ch1')).toBe(401)
  expect(await status('?channel=ch1', { headers: { authorization: 'Basic bm9ib2R5' } })).toBe(401)
  const wrong = `Basic ${Buffer.from('alice:wrong').toString('base64')}`
  expect(await status('?channel=ch1', { headers: { authorization: wrong } })).toBe(401)
  expect(await status('?channel=ch2', { headers: as('bob') })).toBe(403)
  expect(await status('?channel=ch1', { method: 'POST', headers: as('bob') })).toBe(403)
  expect(await status('', { headers: as('bob') })).toBe(400)
  expect(await status('?channel=a&channel=b&channel=c', { headers: as('bob') })).toBe(400)
  expect(await status('?channel=ch1', { method: 'DELETE' })).toBe(405)
  const body = 'x'.repeat(11)
  expect(await status('?channel=ch1', { method: 'POST', headers: as('alice'), body })).toBe(413)
  const token = Buffer.from('alice:s3cret').toString('base64url')
  const bearer = { authorization: `Bearer ${token}` }
  expect(await status('?channel=ch1', { method: 'POST', headers: bearer, body: 'x' })).toBe(204)
})

test('Last-Event-ID resumes from the history, and says where it has a gap', async () => {
  const { feed, url } = await open({ history: 3 })
  const first = await listen(`${url}?channel=ch1`, as('bob'))
  for (const text of ['1', '2']) feed.publish('ch1', text)
  await waitUntil(() => first.messages().length === 2)
  const { id = '' } = first.messages()[0] as Event
  await first.close()
  feed.publish('ch1', '3')
  const again = await listen(`${url}?channel=ch1`, { ...as('bob'), 'last-event-id': id })
  await waitUntil(() => again.messages().length === 2)
  expect(again.messages().map(({ data }) => data?.text)).toEqual(['2', '3'])
  feed.publish('ch1', '4')
  await waitUntil(() => again.messages().length === 3)
  await again.close()
  for (const text of ['5', '6']) feed.publish('ch1', text)
  const late = await listen(`${url}?channel=ch1&lastEventId=${id}`, as('bob'))
  await waitUntil(() => late.messages().length === 4)
  expect(late.messages().map(({ event, data }) => data?.text ?? event)).toEqual([
    'gap',
    '4',
    '5',
    '6',
  ])
  const other = await listen(`${url}?channel=ch1&lastEventId=01234567-99`, as('bob'))
  await waitUntil(() => other.messages().length === 4)
  expect(other.messages()[0]?.event).toBe('gap')
  await late.close()
  await other.close()
})

test('a reader that does not read is cut, and streams end with the feed', async () => {
  const { feed, url } = await open({}, { bufferLimit: 1_024 })
  const { connect } = await import('node:net')
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  socket.on('error', () => undefined)
  socket.write(
    `GET /feed?channel=ch1 HTTP/1.1\r\nHost: x\r\nAuthorization: ${basic('bob')}\r\n\r\n`,
  )
  await new Promise((resolve) => socket.once('data', resolve))
  socket.pause()
  let isClosed = false
  socket.on('close', () => {
    isClosed = true
  })
  for (let i = 0; i < 200; i++) feed.publish('ch1', Buffer.alloc(100_000))
  socket.resume()
  await waitUntil(() => isClosed)
  const stream = await listen(`${url}?channel=ch1`, as('bob'))
  await feed.close()
  await waitUntil(stream.isOver)
})

test('who resumes more than the limit of a reader gets all of it', async () => {
  const { feed, url } = await open({ history: 100 }, { bufferLimit: 1_024 })
  const first = await listen(`${url}?channel=ch1`, as('bob'))
  await waitUntil(() => first.events.length === 1)
  await first.close()
  for (let i = 0; i < 50; i++) feed.publish('ch1', 'x'.repeat(10_000))
  const headers = { ...as('bob'), 'last-event-id': first.events[0]?.id ?? '' }
  const again = await listen(`${url}?channel=ch1`, headers)
  await waitUntil(() => again.messages().length === 50)
  await again.close()
})

test('a body that is too long is answered, not cut off', async () => {
  const { url } = await open({}, { bodySize: 10 })
  const { connect } = await import('node:net')
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  let answer = ''
  socket.on('error', () => undefined)
  socket.on('data', (chunk) => {
    answer += chunk
  })
  const head = 'POST /feed?channel=ch1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000\r\n'
  socket.write(`${head}Authorization: ${basic('alice')}\r\n\r\n${'x'.repeat(20)}`)
  await waitUntil(() => answer.includes('10 bytes at most'))
  expect(answer).toMatch(/^HTTP\/1\.1 413 /)
  socket.destroy()
})

test('the history is bounded by messages, by bytes, and by channels', async () => {
  const feed = new Feed({ history: 100, historyBytes: 1_000 })
  await feed.listen()
  for (let i = 0; i < 10; i++) feed.publish('a', Buffer.alloc(300))
  const { messages, isWhole } = feed.messagesSince(['a'], 0)
  expect([messages.length, isWhole]).toEqual([3, false])
  for (let i = 0; i < 1_200; i++) feed.publish(`c${i}`, 'x')
  expect(feed.messagesSince(['c0'], 0)).toEqual({ messages: [], isWhole: false })
  expect(feed.messagesSince(['c1199'], feed.sequence - 1).messages).toHaveLength(1)
  await feed.close()
})

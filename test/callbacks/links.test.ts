/** Functions that a user gives to the feed and to links: none ends the program, or keeps others from theirs. */
import { describe, expect, onTestFinished, test } from 'vitest'
import type { Identity } from '../../src/feed/rights.ts'
import { forwardSessionEvents } from '../../src/session/session-messages.ts'
import { dial, withReconnect } from '../../src/wire/index.ts'
import { openFeed, openFeedClient } from '../feed/help.ts'
import { rejectionOf, waitUntil } from '../help.ts'
import { pair } from '../wire/pair.ts'
import { all, ask, nonsense, quiet, serving, throwing, warnings } from './misbehaviour.ts'

// biome-ignore lint/suspicious/noExplicitAny: wrong functions are what is tested
type Any = (...args: any[]) => any

const cases = all as readonly (readonly [string, Any])[]
const failing = throwing as readonly (readonly [string, Any])[]

describe('feed', () => {
  describe('identities: nobody comes by a find that', () => {
    test.each(cases)('%s', async (_name, find) => {
      const feed = await openFeed({ identities: { find } as never, authTimeout: 100 })
      onTestFinished(() => feed.close())
      const errors: Error[] = []
      feed.on('error', (error) => errors.push(error))
      const alice = openFeedClient(feed.port)
      onTestFinished(() => alice.close().catch(() => undefined))
      await waitUntil(() => alice.state === 'waiting' || alice.state === 'refused')
      // Nobody, or an error that says why it cannot be known.
      const known: unknown = await feed.authenticate('alice', 's3cret').catch((error) => error)
      expect(known === undefined || known instanceof Error).toBe(true)
      expect(alice.state).not.toBe('connected')
    })
  })

  test.each(cases)('identities: close() %s, and the feed closes', async (_name, close) => {
    const find = (): Identity | undefined => undefined
    const feed = await openFeed({ identities: { find, close } as never, closeTimeout: 0 })
    await feed.close()
  })

  test.each(failing)('a listener of a channel %s: the others hear all', async (_name, listener) => {
    const feed = await openFeed()
    onTestFinished(() => feed.close())
    const errors: Error[] = []
    feed.on('error', (error) => errors.push(error))
    const heard: string[] = []
    feed.subscribe('ch1', listener)
    feed.subscribe('ch1', ({ payload }) => heard.push(String(payload)))
    for (const text of ['one', 'two']) feed.publish('ch1', text)
    await waitUntil(() => errors.length > 0)
    expect(heard).toEqual(['one', 'two'])
    expect(errors).toMatchObject([
      {
        code: 'MANYHOST_FUNCTION_FAILED',
        message: expect.stringMatching(/listener of channel "ch1"/),
      },
    ])
  })

  test.each(cases)('random of a client %s: it connects again', async (_name, random) => {
    const told = warnings()
    const alice = openFeedClient('/nowhere/feed.sock', 'alice', { random })
    let count = 0
    alice.on('disconnected', () => count++)
    await waitUntil(() => count > 2)
    await alice.close()
    expect(told.filter((text) => text.includes('the random of the feed client'))).toHaveLength(1)
  })
})

test.each(cases)('random of sampled events %s: requests are told or not', async (_name, random) => {
  const told = warnings()
  const { session } = serving()
  const off = forwardSessionEvents(session, () => undefined, { sample: 0.5, random })
  expect(await ask(session)).toEqual(new Set([200]))
  off()
  await waitUntil(() => told.length > 0)
  expect(told.filter((text) => text.includes('the random of the sampled events'))).toHaveLength(1)
})

describe('wire', () => {
  test.each(failing)(
    'an exposed function %s: its caller is told, and the link lives',
    async (_name, act) => {
      const { po } = await pair({ act, echo: (x: unknown) => x })
      expect(await rejectionOf(po.request('act()') as Promise<unknown>)).toBeInstanceOf(Error)
      expect(await po.request('echo(7)')).toBe(7)
    },
  )

  test.each(nonsense)('an exposed function %s: the link lives', async (_name, act) => {
    const { po } = await pair({ act, echo: (x: unknown) => x })
    await Promise.race([po.request('act()').catch(() => undefined), quiet()])
    expect(await po.request('echo(7)')).toBe(7)
  })

  test.each(cases)('`key` %s: the peer is refused, and others may come', async (_name, find) => {
    const told: Error[] = []
    const key = (ident: string | undefined): never =>
      (ident === 'good' ? 'sixteen bytes and more' : find()) as never
    const served = { key, onError: (error: Error) => void told.push(error) }
    const own = 'sixteen bytes and more'
    const { server } = await pair({}, { serve: served, dial: { key: own, ident: 'good' } })
    const refused = await rejectionOf(dial({ port: server.port, key: own, ident: 'bad' }))
    expect(refused).toMatchObject({ code: 'MANYHOST_WIRE_AUTH' })
    await (await dial({ port: server.port, key: own, ident: 'good' })).po.disconnect()
    const codes = told.map((error) => (error as { code?: string }).code)
    expect(codes).toContain('MANYHOST_FUNCTION_FAILED')
  })

  test.each(cases)('`names` %s: the peer is hung up, and the server lives', async (name, names) => {
    const told: Error[] = []
    let isGood = false
    const made = ((): unknown => (isGood ? { echo: (x: unknown) => x } : names())) as never
    isGood = true
    const served = { onError: (error: Error) => void told.push(error) }
    const { server, po } = await pair(made, { serve: served })
    isGood = false
    // An object without names of its own exposes nothing, and that is what it says.
    if (!/empty object|getters|valueOf/.test(name)) {
      await rejectionOf(dial({ port: server.port }) as Promise<unknown>)
      expect(told).toHaveLength(1)
    }
    expect(await po.request('echo(7)')).toBe(7)
  })

  test.each(failing)('onError %s, and so do callbacks of the link', async (_name, act) => {
    const told = warnings()
    const names = { hbi_disconnected: act, hbi_peer_done: act, __hbi_cleanup__: act, act }
    const { po, server } = await pair(names, { serve: { onError: act } })
    await po.notif('act()')
    await po.disconnect()
    await server.close()
    await waitUntil(() => told.length > 0)
    expect(told.filter((text) => text.includes('onError of a wire link'))).toHaveLength(1)
  })

  test.each(failing)('onRetry %s: it goes on', async (_name, onRetry) => {
    const options = { minDelay: 1, maxAttempts: 3, onRetry }
    const error = await rejectionOf(withReconnect('unix:/nowhere/x', {}, () => 1, options))
    expect(error.message).toMatch(/^gave up after 3 failures in a row/)
  })
})

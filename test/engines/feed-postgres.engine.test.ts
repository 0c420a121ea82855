/** Identities of a feed in a real PostgreSQL 15: rights, changes while it runs, an end and a new beginning. */
import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type FeedClient, fromPostgres } from '../../src/feed/index.ts'
import { openFeed, openFeedClient } from '../feed/help.ts'
import { rejectionOf, waitUntil } from '../help.ts'
import { withEngine } from './engine.ts'
import { createPostgres, POSTGRES, type Postgres } from './postgres.ts'

withEngine(POSTGRES, 'postgresql', () => {
  let postgres: Postgres

  /** In a connection of its own, as an administrator has it. */
  async function sql(text: string, values: readonly unknown[] = []): Promise<void> {
    const database = new pg.Client({ connectionString: postgres.url })
    await database.connect()
    try {
      await database.query(text, [...values])
    } finally {
      await database.end()
    }
  }

  const put = (ident: string, secret: string, publish: unknown, subscribe: unknown) =>
    sql(
      `insert into auth_keys (identifier, secret, pubchans, subchans) values ($1, $2, $3, $4)
       on conflict (identifier) do update set secret = $2, pubchans = $3, subchans = $4`,
      [ident, secret, publish, subscribe],
    )

  async function table(type: string): Promise<void> {
    await sql('drop table if exists auth_keys')
    await sql(`create table auth_keys (id serial primary key, owner text,
      identifier text unique, secret text, pubchans ${type}, subchans ${type})`)
  }

  /** A feed by this database; what it reports is in `errors`. */
  async function feedOf() {
    const identities = fromPostgres(postgres.url.replace('postgres:', 'database+postgresql:'))
    const feed = await openFeed({ identities })
    const errors: string[] = []
    feed.on('error', ({ message }) => errors.push(message))
    return { feed, errors }
  }

  /** Says and hears a message: the surest sign of being let in. False where it is refused, or is to come again. */
  async function talks(port: number, options: object = {}): Promise<boolean> {
    const one = openFeedClient(port, 'alice', options)
    one.subscribe('ch1')
    one.publish('ch1', 'in')
    const heard = one.read().then(
      () => true,
      () => false,
    )
    const isIn = await Promise.race([heard, lost(one).then(() => false)])
    await one.close()
    return isIn
  }

  /** Why the connection of a client ended. */
  function lost(one: FeedClient): Promise<string> {
    return new Promise((resolve) => one.on('disconnected', ({ reason }) => resolve(reason)))
  }

  beforeAll(async () => {
    postgres = await createPostgres()
    await postgres.start()
  })

  afterAll(async () => {
    await postgres?.remove()
  })

  it.each([
    ['text', (channels: readonly string[]) => JSON.stringify(channels)],
    ['json', (channels: readonly string[]) => JSON.stringify(channels)],
    ['jsonb', (channels: readonly string[]) => JSON.stringify(channels)],
    ['text[]', (channels: readonly string[]) => channels],
  ])('looks up who comes, and what he may; lists of channels as %s', async (type, write) => {
    await table(type)
    await put('alice', 's3cret', write(['ch1']), write(['ch1']))
    await put('bob', 'b0b', null, write(['ch1']))
    const { feed, errors } = await feedOf()
    expect(await talks(feed.port)).toBe(true)
    const bob = openFeedClient(feed.port, 'bob')
    bob.publish('ch1', 'he may not')
    expect((await rejectionOf(bob.close())).message).toContain('ident=bob, chan=ch1')
    const alice = openFeedClient(feed.port)
    alice.subscribe('ch2')
    expect((await rejectionOf(alice.read())).message).toContain('not allowed to sub here')
    await alice.close()
    for (const ident of ['eve', "x' or '1'='1"]) {
      const stranger = openFeedClient(feed.port, 'eve', { ident })
      expect((await rejectionOf(stranger.read())).message).toContain(`failed for ${ident}`)
      await stranger.close()
    }
    expect(errors).toEqual([])
    await feed.close()
  })

  it('a change holds from the next connection on', async () => {
    await table('text')
    await put('alice', 's3cret', '["ch1"]', '["ch1"]')
    const { feed } = await feedOf()
    await using before = openFeedClient(feed.port)
    before.subscribe('ch1')
    before.publish('ch1', 'before')
    await before.read()
    await put('alice', 'another', '["ch1"]', '["ch1"]')
    expect(await talks(feed.port)).toBe(false)
    expect(await talks(feed.port, { secret: 'another' })).toBe(true)
    expect(before.state).toBe('connected')
    await sql('delete from auth_keys')
    expect(await talks(feed.port, { secret: 'another' })).toBe(false)
    await feed.close()
  })

  it('a row that cannot be read lets nobody in, and is told without its secret', async () => {
    await table('text')
    await put('alice', 's3cret', 'ch1,ch2', null)
    const { feed, errors } = await feedOf()
    expect(await talks(feed.port, { retryMin: 60_000, closeTimeout: 0 })).toBe(false)
    expect(errors).toHaveLength(1)
    expect(errors[0]).not.toContain('s3cret')
    await feed.close()
  })

  it('outlives the end of the database: who is in stays, and who comes meanwhile is in when it is back', async () => {
    await table('text')
    await put('alice', 's3cret', '["ch1"]', '["ch1"]')
    const { feed, errors } = await feedOf()
    await using inside = openFeedClient(feed.port)
    inside.subscribe('ch1')
    inside.publish('ch1', 'before')
    await inside.read()
    await postgres.stop()
    await using early = openFeedClient(feed.port, 'alice', { settle: 60_000 })
    early.subscribe('ch1')
    early.publish('ch1', 'from the outage')
    expect(await lost(early)).toBe('Authentication is not possible now for alice')
    await waitUntil(() => errors.length > 0)
    expect(errors.join()).not.toContain('s3cret')
    inside.publish('ch1', 'meanwhile')
    expect((await inside.read()).payload.toString()).toBe('meanwhile')
    await postgres.start()
    expect((await early.read()).payload.toString()).toBe('from the outage')
    expect(early.dropped).toBe(0)
    expect(inside.state).toBe('connected')
    await feed.close()
  })
})

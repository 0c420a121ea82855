/** Where identities come from; and certificates that are renewed while a broker runs. */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import {
  chain,
  Feed,
  FeedClient,
  fromEnv,
  fromFile,
  fromMemory,
  fromPostgres,
  fromSqlite,
} from '../../src/feed/index.ts'
import { rejectionOf, waitUntil } from '../help.ts'
import { IDENTITIES, openFeed, openFeedClient, portOf, readMetric } from './help.ts'

const folder = mkdtempSync(join(tmpdir(), 'manyhost-feed-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const alice = { ident: 'alice', secret: 's', publish: ['a'], subscribe: ['b'] }

test('environment: names as the original has them', async () => {
  const source = fromEnv({
    HPFEEDS_ALICE_SECRET: 's',
    HPFEEDS_ALICE_PUBCHANS: 'a, c',
    HPFEEDS_ALICE_SUBCHANS: '',
    HPFEEDS_BOB_OWNER: 'nobody',
  })
  expect(source.find('alice')).toEqual({
    ident: 'alice',
    secret: 's',
    owner: 'alice',
    publish: ['a', 'c'],
    subscribe: [],
  })
  expect(source.find('bob')).toBeUndefined()
  expect(source.find('__proto__')).toBeUndefined()
})

test.each(['json', 'yaml'])('a %s file, read again when it changes', async (kind) => {
  const path = join(folder, `people.${kind}`)
  const write = (secret: string): void =>
    writeFileSync(
      path,
      kind === 'json'
        ? JSON.stringify({ alice: { owner: 'x', secret, pubchans: ['ch1'], subchans: ['ch1'] } })
        : `alice:\n  secret: ${secret}\n  publish: [ch1]\n  subscribe: [ch1]\n`,
    )
  write('first')
  const errors: string[] = []
  await using feed = await openFeed({ identities: fromFile(path, { interval: 10 }) })
  feed.on('error', ({ message }) => errors.push(message))
  await using one = openFeedClient(feed.port, 'alice', { secret: 'first' })
  await one.ready()
  writeFileSync(path, '{ "alice": { "secret": 7, "hush": "topsecret" } }')
  await waitUntil(() => errors.length > 0)
  expect(errors.join()).toMatch(/"alice": unknown key "hush"/)
  expect(errors.join()).not.toContain('topsecret')
  write('second-one')
  await waitUntil(async () => {
    const next = openFeedClient(feed.port, 'alice', { secret: 'second-one' })
    next.subscribe('ch1')
    next.publish('ch1', 'in')
    // Silence would tell less: what comes back is a yes.
    const isIn = await next.read().then(
      () => true,
      () => false,
    )
    await next.close()
    return isIn
  })
  // Who is in stays in.
  expect(one.state).toBe('connected')
})

test('a file that is not there, or is wrong, at the start', async () => {
  const missing = new Feed({ identities: fromFile(join(folder, 'none.json')) })
  expect((await rejectionOf(missing.listen())).message).toMatch(/none.json: .*ENOENT/)
  const path = join(folder, 'broken.json')
  writeFileSync(path, '{ "alice": { "secret": "hush-hush", ')
  const broken = new Feed({ identities: fromFile(path) })
  const { message } = await rejectionOf(broken.listen())
  expect(message).toContain('broken.json')
  expect(message).not.toContain('hush-hush')
})

test("SQLite: the original's table, and changes from the next connection on", async () => {
  const path = join(folder, 'people.sqlite')
  await using feed = await openFeed({ identities: fromSqlite(path) })
  const wrong = openFeedClient(feed.port, 'alice', { settle: 60_000 })
  expect((await rejectionOf(wrong.ready())).code).toBe('MANYHOST_FEED_REFUSED')
  await wrong.close()
  const { default: Database } = await import('libsql')
  const database = new Database(path)
  database
    .prepare(
      'insert into authkeys (owner, ident, secret, pubchans, subchans) values (?, ?, ?, ?, ?)',
    )
    .run('owner', 'alice', 's3cret', '["ch1"]', '["ch1"]')
  database.close()
  await using right = openFeedClient(feed.port)
  right.subscribe('ch1')
  right.publish('ch1', 'x')
  expect((await right.read()).payload.toString()).toBe('x')
})

test('SQLite: a database of another program is refused, and left as it is', async () => {
  const path = join(folder, 'photos.sqlite')
  const { default: Database } = await import('libsql')
  const other = new Database(path)
  other.exec('create table photos (id integer)')
  other.close()
  const before = readFileSync(path)
  const { message } = await rejectionOf(new Feed({ identities: fromSqlite(path) }).listen())
  expect(message).toMatch(/photos\.sqlite: it has the tables of another program \('photos'\)/)
  expect(readFileSync(path).equals(before)).toBe(true)
})

test('PostgreSQL: a database that cannot be reached refuses nobody for good, and is told', async () => {
  const identities = fromPostgres('database+postgresql://a@127.0.0.1:1/x', { timeout: 500 })
  await using feed = await openFeed({ identities })
  const errors: Error[] = []
  feed.on('error', (error) => errors.push(error))
  await using one = openFeedClient(feed.port, 'alice', { retryMin: 60_000 })
  const reason = await new Promise<string>((resolve) => {
    one.on('disconnected', (event) => resolve(event.reason))
  })
  expect(reason).toBe('Authentication is not possible now for alice')
  expect(one.state).toBe('waiting')
  expect(
    await readMetric(feed, 'manyhost_feed_connection_error_total', {
      category: 'error-checking-ident',
    }),
  ).toBe(1)
  expect(errors).toHaveLength(1)
})

test('a chain: the first that knows an ident is right', async () => {
  const first = fromMemory({ alice: { secret: 's', publish: ['a'], subscribe: ['b'] } })
  const late = { find: async (ident: string) => ({ ...alice, ident, secret: 'late' }) }
  const source = chain(first, late, fromMemory({ carol: { secret: 'never' } }))
  expect(source.find('alice')).toEqual(alice)
  expect(await source.find('carol')).toMatchObject({ secret: 'late' })
  expect(await chain(first, first).find('carol')).toBeUndefined()
})

const hasOpenssl = spawnSync('openssl', ['version']).status === 0
if (!hasOpenssl) {
  console.warn(
    '!!! openssl is not on the PATH: TLS is NOT tested; on Debian: apt-get install openssl',
  )
}

test.skipIf(!hasOpenssl)(
  'TLS, with a certificate that is renewed',
  { timeout: 60_000 },
  async () => {
    const files = { key: join(folder, 'key.pem'), cert: join(folder, 'cert.pem') }
    const make = (): Buffer => {
      const args = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2'
      const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost']
      execFileSync(
        'openssl',
        [...args.split(' '), ...names, '-keyout', files.key, '-out', files.cert],
        { stdio: 'ignore' },
      )
      return readFileSync(files.cert)
    }
    const first = make()
    const endpoint = `tls:interface=127.0.0.1:port=0:key=${files.key}:cert=${files.cert}`
    await using feed = new Feed({ endpoints: endpoint, identities: IDENTITIES })
    const [url = ''] = await feed.listen()
    const options = { host: '127.0.0.1', port: portOf(url), ident: 'alice', secret: 's3cret' }
    const open = (ca: Buffer): FeedClient =>
      new FeedClient({ ...options, settle: 20, tls: { ca, servername: 'localhost' } })
    await using one = open(first)
    one.subscribe('ch1')
    one.publish('ch1', Buffer.alloc(300_000, 3))
    expect((await one.read()).payload).toHaveLength(300_000)
    const stranger = new FeedClient({ ...options, tls: true, closeTimeout: 10 })
    const reason = new Promise<string>((resolve) => {
      stranger.on('disconnected', (event) => resolve(event.reason))
    })
    expect(await reason).toMatch(/self.signed/)
    await stranger.close()
    const second = make()
    await waitUntil(async () => {
      const next = open(second)
      const isIn = await Promise.race([
        next.ready().then(() => true),
        new Promise<boolean>((resolve) => next.on('disconnected', () => resolve(false))),
      ])
      await next.close()
      return isIn
    })
    one.publish('ch1', 'still here')
    expect((await one.read()).payload.toString()).toBe('still here')
  },
)

/** Peers in another language: a client in Python at our broker, and a broker in Python for our client. */
import { spawn, spawnSync } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { describe, expect, onTestFinished, test } from 'vitest'
import { FeedClient } from '../../src/feed/index.ts'
import { rejectionOf, waitUntil } from '../help.ts'
import { IDENTITIES, openFeed, readMetric } from './help.ts'

const hasPython = spawnSync('python3', ['--version']).status === 0
if (!hasPython) {
  console.warn(
    '!!! python3 is not on the PATH: peers in another language are NOT tested; on Debian: apt-get install python3',
  )
}

const script = fileURLToPath(new URL('../fakes/hpfeeds.py', import.meta.url))

function snake(...args: readonly (string | number)[]) {
  const child = spawn('python3', [script, ...args.map(String)], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, PYTHONUTF8: '1' },
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  const lines: string[] = []
  createInterface({ input: child.stdout }).on('line', (line) => lines.push(line))
  return {
    lines,
    tell: (...words: readonly string[]): void => void child.stdin.write(`${words.join(' ')}\n`),
    async says(line: string, times = 1): Promise<void> {
      const count = (): number => lines.filter((one) => one === line).length
      await waitUntil(() => count() >= times, `it says ${line}`)
    },
    async port(): Promise<number> {
      await waitUntil(() => lines.length > 0, 'it has a port')
      return Number(lines[0]?.replace('port ', ''))
    },
  }
}

const hex = (text: string): string => Buffer.from(text).toString('hex')
const ident = 'zoë'
const identities = {
  ...IDENTITIES,
  [ident]: { secret: 'geheim', publish: ['ch1', 'straße'], subscribe: ['ch1', 'straße'] },
}

describe.skipIf(!hasPython)('a client in Python at our broker', () => {
  test.each(['whole', 'drip'])('says and hears whatever bytes there are (%s)', async (how) => {
    await using feed = await openFeed({ identities, name: 'testbroker' })
    const peer = snake('client', feed.port, ident, 'geheim', how)
    await peer.says('info testbroker')
    await using alice = new FeedClient({ port: feed.port, ident: 'alice', secret: 's3cret' })
    alice.subscribe('ch1')
    peer.tell('sub', 'ch1')
    peer.tell('sub', 'straße')
    await waitUntil(async () => (await subscriptions()) === 3, '3 subscriptions')
    async function subscriptions(): Promise<number> {
      const metric = await feed.metrics.getSingleMetric('manyhost_feed_subscriptions')?.get()
      return metric?.values.reduce((sum, { value }) => sum + value, 0) ?? 0
    }
    peer.tell('pub', 'ch1', '00ff0a')
    await peer.says(`pub ${ident} ch1 00ff0a`)
    const heard = await alice.read()
    expect([heard.ident, heard.channel, [...heard.payload]]).toEqual([ident, 'ch1', [0, 255, 10]])
    alice.publish('ch1', 'hello')
    await peer.says(`pub alice ch1 ${hex('hello')}`)
    peer.tell('pub', 'straße', '')
    await peer.says(`pub ${ident} straße `)
    peer.tell('unsub', 'ch1')
    await waitUntil(async () => (await subscriptions()) === 2, '2 subscriptions')
    alice.publish('ch1', 'not heard')
    feed.publish('straße', 'heard')
    await peer.says(`pub testbroker straße ${hex('heard')}`)
    expect(peer.lines).not.toContain(`pub alice ch1 ${hex('not heard')}`)
  })

  test('takes and sends the longest message', async () => {
    await using feed = await openFeed({ identities })
    const peer = snake('client', feed.port, 'alice', 's3cret')
    await peer.says('info manyhost')
    peer.tell('sub', 'ch1')
    const longest = 1_048_576 - 1 - 'alice'.length - 1 - 'ch1'.length
    peer.tell('pub', 'ch1', `x${longest}`)
    await peer.says(`pub alice ch1 x${longest}`)
    peer.tell('pub', 'ch1', `x${longest + 1}`)
    await peer.says('closed')
    expect(peer.lines.filter((line) => line.startsWith('error'))).toEqual([])
  })

  test('is refused in the words of the original', async () => {
    await using feed = await openFeed({ identities })
    const wrong = snake('client', feed.port, ident, 'wrong')
    await wrong.says(`error Authentication failed for ${ident}`)
    await wrong.says('closed')
    const bob = snake('client', feed.port, 'bob', 'b0b')
    await bob.says('info manyhost')
    bob.tell('sub', 'ch2')
    await bob.says('error Authkey not allowed to sub here. ident=bob, chan=ch2')
    await bob.says('closed')
    const labels = { ident: 'bob', category: 'no-sub-permission' }
    expect(await readMetric(feed, 'manyhost_feed_connection_error_total', labels)).toBe(1)
  })
})

describe.skipIf(!hasPython)('our client at a broker in Python', () => {
  const open = (port: number, secret = 'geheim'): FeedClient =>
    new FeedClient({ port, ident, secret, settle: 60_000, retryMin: 5, closeTimeout: 60_000 })

  test.each(['whole', 'drip'])('says and hears whatever bytes there are (%s)', async (how) => {
    const broker = snake('broker', ident, 'geheim', how)
    await using one = open(await broker.port())
    one.subscribe('ch1', 'straße')
    await broker.says(`auth ${ident} yes`)
    await broker.says(`sub ${ident} straße`)
    one.publish('straße', Buffer.from([0, 255, 10]))
    const own = await one.read()
    expect([own.ident, own.channel, [...own.payload]]).toEqual([ident, 'straße', [0, 255, 10]])
    expect(one.broker).toBe('snake')
    broker.tell('pub', 'ch1', 'c3a9')
    expect((await one.read()).payload.toString()).toBe('é')
    one.unsubscribe('ch1')
    await broker.says(`unsub ${ident} ch1`)
  })

  test('comes again when it is cut off, asks for its channels, and sends what waited', async () => {
    const broker = snake('broker', ident, 'geheim')
    const one = open(await broker.port())
    one.subscribe('ch1')
    await broker.says(`sub ${ident} ch1`)
    const noticed = new Promise((resolve) => one.on('disconnected', resolve))
    broker.tell('cut')
    await noticed
    one.publish('ch1', 'after')
    await broker.says(`sub ${ident} ch1`, 2)
    await broker.says(`pub ${ident} ch1 ${hex('after')}`)
    expect((await one.read()).payload.toString()).toBe('after')
    await one.close()
    expect(one.dropped).toBe(0)
  })

  test('hears why it is refused, and what is no refusal', async () => {
    const broker = snake('broker', ident, 'geheim')
    const port = await broker.port()
    const wrong = open(port, 'wrong')
    const error = await rejectionOf(wrong.ready())
    expect(error.code).toBe('MANYHOST_FEED_REFUSED')
    expect(error.message).toContain(`the broker says: Authentication failed for ${ident}`)
    await wrong.close()
    await using one = open(port)
    one.subscribe('ch1')
    await broker.says(`sub ${ident} ch1`)
    const said = new Promise<string>((resolve) =>
      one.on('error', ({ message }) => resolve(message)),
    )
    broker.tell('error', 'please be brief')
    expect(await said).toContain('please be brief')
    broker.tell('pub', 'ch1', '')
    expect((await one.read()).payload).toHaveLength(0)
  })
})

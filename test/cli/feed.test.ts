/** `manyhost feed`, as its users run it. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { formatJsonLine, formatPlainLine } from '../../src/cli/feed/subscribe.ts'
import { FeedClient } from '../../src/feed/index.ts'
import { rejectionOf, waitUntil } from '../help.ts'
import { createFolder, runManyhost, startProgram } from './help.ts'

const PEOPLE = JSON.stringify({
  alice: { secret: 's3cret', publish: ['c'], subscribe: ['c'] },
  bob: { secret: 'b0b', subscribe: ['c'] },
})

async function broker() {
  const people = join(createFolder(), 'people.json')
  writeFileSync(people, PEOPLE)
  const args = ['feed', 'broker', '--bind', '127.0.0.1:0', '--auth', people]
  const running = startProgram([...args, '--exporter', '127.0.0.1:0', '--debug'])
  const [, port = ''] = await running.waitForOutput(/listening on tcp:\/\/127\.0\.0\.1:(\d+)/)
  const [, exporter = ''] = await running.waitForOutput(/HTTP on (http:\S+)/)
  /** Resolves when its metrics say so. */
  const shows = (pattern: RegExp): Promise<unknown> =>
    waitUntil(
      async () => pattern.test(await (await fetch(`${exporter}/metrics`)).text()),
      `${pattern}`,
    )
  return { running, port, shows }
}

const SECRET = { MANYHOST_FEED_SECRET: 's3cret' }

test('broker, subscribe, publish and sendfile', { timeout: 120_000 }, async () => {
  const { running, port, shows } = await broker()
  const me = ['-i', 'alice', '-p', port, '-c', 'c']
  const output = join(createFolder(), 'out.txt')
  const plain = startProgram(['feed', 'subscribe', ...me, '-n', '3', '-o', output], { env: SECRET })
  const json = startProgram(['feed', 'subscribe', ...me, '-n', '3', '--json'], { env: SECRET })
  await shows(/^manyhost_feed_subscriptions\{.*chan="c".*\} 2$/m)
  await running.waitForOutput(/is alice[\s\S]*is alice/, 'stderr')
  expect(running.stderr().match(/is alice/g)).toHaveLength(2)
  const secretFile = join(createFolder(), 'secret')
  writeFileSync(secretFile, 's3cret\n')
  const said = await runManyhost([
    'feed',
    'publish',
    ...me,
    '--secret-file',
    secretFile,
    'all',
    'well',
  ])
  expect(said).toEqual({ code: 0, stdout: '', stderr: '' })
  const piped = await runManyhost(['feed', 'publish', ...me], { env: SECRET, input: 'a line\n' })
  expect(piped.code).toBe(0)
  const file = join(createFolder(), 'sample.bin')
  writeFileSync(file, Buffer.from([0, 27, 91, 50, 74, 255]))
  expect((await runManyhost(['feed', 'sendfile', ...me, file], { env: SECRET })).code).toBe(0)
  const { code, stdout } = await plain.ended
  expect(code).toBe(0)
  expect(stdout).toBe('c alice: all well\nc alice: a line\nc alice: 6 bytes: 001b5b324aff\n')
  expect(readFileSync(output, 'utf8')).toBe(stdout)
  const rows = (await json.ended).stdout
    .trim()
    .split('\n')
    .map((row) => JSON.parse(row))
  expect(rows.map(({ at: _, ...row }) => row)).toEqual([
    { channel: 'c', ident: 'alice', text: 'all well' },
    { channel: 'c', ident: 'alice', text: 'a line' },
    {
      channel: 'c',
      ident: 'alice',
      base64: Buffer.from([0, 27, 91, 50, 74, 255]).toString('base64'),
    },
  ])
  running.process.kill('SIGTERM')
  expect((await running.ended).code).toBe(0)
})

test('a refusal, nobody there, and a wrong command line have their codes', {
  timeout: 120_000,
}, async () => {
  const { port } = await broker()
  const publish = ['feed', 'publish', '-p', port, '-c', 'c']
  const wrong = await runManyhost([...publish, '-i', 'alice', 'x'], {
    env: { MANYHOST_FEED_SECRET: 'no' },
  })
  expect([wrong.code, wrong.stderr]).toEqual([
    6,
    expect.stringContaining('Authentication failed for alice'),
  ])
  const bob = await runManyhost([...publish, '-i', 'bob', 'x'], {
    env: { MANYHOST_FEED_SECRET: 'b0b' },
  })
  expect([bob.code, bob.stderr]).toEqual([6, expect.stringContaining('not allowed to pub here')])
  const nobody = await runManyhost(['feed', 'publish', '-p', '1', '-c', 'c', '-i', 'a', 'x'], {
    env: SECRET,
  })
  expect([nobody.code, nobody.stderr]).toEqual([4, expect.stringContaining('ECONNREFUSED')])
  const shown = await runManyhost([...publish, '-i', 'alice', '-s', 's3cret', 'x'])
  expect([shown.code, shown.stderr]).toEqual([2, expect.stringContaining('--secret-file')])
  expect((await runManyhost([...publish, 'x'], { env: SECRET })).code).toBe(2)
  const taken = await runManyhost(['feed', 'broker', '--bind', `127.0.0.1:${port}`])
  expect([taken.code, taken.stderr]).toEqual([
    7,
    expect.stringContaining('it is taken by another program'),
  ])
  const auth = ['feed', 'broker', '--auth', 'postgresql://a:b@c/d']
  expect((await runManyhost(auth)).stderr).toContain('PGPASSWORD')
})

test('serve: a feed of the file, its events, and its door over HTTP', {
  timeout: 120_000,
}, async () => {
  const cwd = createFolder()
  writeFileSync(
    join(cwd, 'fleet.yaml'),
    `services: {}
gateway: { listen: 127.0.0.1:0 }
admin: { listen: 127.0.0.1:0 }
feed:
  listen: 127.0.0.1:0
  history: 10
  identities:
    alice: { secret: s3cret, publish: [c], subscribe: [c, manyhost.cluster] }
`,
  )
  const served = startProgram(['serve', '--log', 'json'], { cwd })
  const [line] = await served.waitForOutput(/.*"feed":"tcp:.*\n/)
  const { feed, dashboard } = JSON.parse(line)
  const url = `${dashboard}feed?channel=c`
  const headers = { authorization: `Basic ${Buffer.from('alice:s3cret').toString('base64')}` }
  expect((await fetch(url, { method: 'POST', headers, body: 'x' })).status).toBe(204)
  expect((await fetch(url)).status).toBe(401)
  const port = feed.split(':').pop()
  const sent = await runManyhost(['feed', 'publish', '-p', port, '-i', 'alice', '-c', 'c', 'y'], {
    env: SECRET,
  })
  expect(sent.code).toBe(0)
  const metrics = await (await fetch(`${dashboard}metrics`)).text()
  expect(metrics).toContain('manyhost_feed_receive_publish_count_total{ident="alice",chan="c"} 2')
  served.process.kill('SIGTERM')
  expect((await served.ended).code).toBe(0)
})

test('serve: who may come is changed by SIGHUP, for who is there as well', {
  timeout: 120_000,
}, async () => {
  const file = (people: string, more = '') => `services: {}
gateway: { listen: 127.0.0.1:0 }
admin: { listen: 127.0.0.1:0 }
feed:
  listen: 127.0.0.1:0
${more}
  identities:
${people}
`
  const alice = '    alice: { secret: s3cret, publish: [c], subscribe: [c] }'
  const cwd = createFolder({
    'fleet.yaml': file(`${alice}\n    bob: { secret: b0b, subscribe: [c] }`),
  })
  const served = startProgram(['serve', '--log', 'json'], { cwd })
  const [line] = await served.waitForOutput(/.*"feed":"tcp:.*\n/)
  const { feed } = JSON.parse(line)
  const port = Number(feed.split(':').pop())
  const me = { port, settle: 60_000 }
  await using stays = new FeedClient({ ...me, ident: 'alice', secret: 's3cret' })
  stays.subscribe('c')
  stays.publish('c', 'x')
  await stays.read()
  const bob = new FeedClient({ ...me, ident: 'bob', secret: 'b0b' })
  bob.subscribe('c')
  const listens = waitUntil(async () => {
    stays.publish('c', 'is bob there?')
    await stays.read()
    return bob.state === 'connected'
  })
  await bob.read()
  await listens
  const carol = '    carol: { secret: the-secret-word, subscribe: [c] }'
  writeFileSync(join(cwd, 'fleet.yaml'), file(`${alice}\n${carol}`, '  name: other'))
  served.process.kill('SIGHUP')
  await served.waitForOutput(/"msg":"feed: changed"/)
  const ended = await rejectionOf(
    (async () => {
      for (;;) await bob.read()
    })(),
  )
  expect(ended.message).toContain('Authentication failed for bob')
  await bob.close()
  await using came = new FeedClient({ ...me, ident: 'carol', secret: 'the-secret-word' })
  came.subscribe('c')
  const heard = came.read()
  await waitUntil(async () => {
    stays.publish('c', 'is carol there?')
    await stays.read()
    return came.state === 'connected'
  })
  expect((await heard).ident).toBe('alice')
  await served.waitForOutput(/feed\.name has changed: that takes effect at the next start/)
  writeFileSync(join(cwd, 'fleet.yaml'), file(alice, '  identitiesFile: none.json'))
  served.process.kill('SIGHUP')
  await served.waitForOutput(/feed: could not be changed, and is as it was: .*none\.json/)
  stays.publish('c', 'still here')
  await stays.read()
  served.process.kill('SIGTERM')
  const { code, stdout } = await served.ended
  expect(code).toBe(0)
  expect(stdout).not.toContain('the-secret-word')
})

test('nothing that is said can steer the terminal', () => {
  const message = { ident: 'a\u001b[2J', channel: 'c\n', payload: Buffer.from('a\u202eb') }
  expect(formatPlainLine(message)).toBe('c\ufffd a\ufffd[2J: a\ufffdb')
  const line = formatPlainLine({ ident: 'a', channel: 'c', payload: Buffer.alloc(100, 1) })
  expect(line).toBe(`c a: 100 bytes: ${'01'.repeat(32)}...`)
  expect(formatJsonLine(message, 5)).not.toContain('\n')
})

/** A changed file is applied while requests come, and none of them is lost. */
import { afterEach, describe, expect, it } from 'vitest'
import { inProcess } from '../../providers/testing/index.ts'
import { applyConfig, type ToServiceOptions } from '../../src/config/apply.ts'
import { type Config, loadConfig } from '../../src/config/config.ts'
import type { ServiceConfig } from '../../src/config/services.ts'
import { sleep } from '../../src/core/time.ts'
import { SessionCore } from '../../src/session/session.ts'
import { waitUntil } from '../help.ts'

const sessions: SessionCore[] = []
afterEach(async () => {
  await Promise.all(sessions.splice(0).map((session) => session.close({ force: true })))
})

const TYPES = { providers: { near: {}, broken: {} } }

const config = (services: string): Config =>
  loadConfig({ text: `services:\n${services}\nsession: { provider: near }` }, {}, TYPES)

/** Each version of a service answers with its concurrency, a little later. */
function setUp(): { session: SessionCore; toService: ToServiceOptions; calls: string[] } {
  const handler = (version: number) =>
    inProcess(
      async (): Promise<Response> => {
        await sleep(3)
        return new Response(`v${version}`)
      },
      { style: 'web' },
    )
  const broken = inProcess(() => new Response(''), { style: 'web', failStarts: 1_000 })
  const session = new SessionCore({ provider: handler(0), tickInterval: 20 })
  sessions.push(session)
  const calls: string[] = []
  return {
    session,
    calls,
    toService: ({ options, provider, url }: ServiceConfig) => {
      calls.push(url)
      const version = options.concurrency ?? 1
      return { ...options, provider: provider === 'broken' ? broken : handler(version) }
    },
  }
}

/** Requests of several callers, until told to end. */
function load(session: SessionCore, url: string) {
  const client = session.client()
  let ended = false
  const answers: string[] = []
  const callers = Array.from({ length: 8 }, async () => {
    while (!ended) {
      const response = await client.get(url)
      answers.push(response.status === 200 ? await response.text() : `status ${response.status}`)
    }
  })
  return {
    /** So many more are answered. */
    async more(count: number): Promise<void> {
      const enough = answers.length + count
      await waitUntil(() => answers.length >= enough)
    },
    async end(): Promise<string[]> {
      ended = true
      await Promise.all(callers)
      await client.close()
      return answers
    },
  }
}

describe('applyConfig', () => {
  it('brings services, changes them under load, and takes them away', async () => {
    const { session, toService } = setUp()
    const first = config('  http://a: { concurrency: 1, size: 3 }\n  http://b: { concurrency: 2 }')
    const begun = await applyConfig(session, undefined, first, toService)
    expect(begun).toMatchObject({ failed: [], running: first })
    expect(session.clusters.map(({ url, size }) => [url, size])).toEqual([
      ['http://a', 3],
      ['http://b', 1],
    ])
    const { more, end } = load(session, 'http://a/x')
    await more(20)
    const second = config('  http://a: { concurrency: 4, size: 2 }\n  http://c: { size: 1..3 }')
    const applied = await applyConfig(session, first, second, toService)
    expect(applied.failed).toEqual([])
    expect(applied.succeeded).toHaveLength(3)
    await more(20)
    const third = config('  http://a: { concurrency: 4, size: 5 }\n  http://c: { size: 1..3 }')
    const resized = await applyConfig(session, second, third, toService)
    expect(resized.succeeded).toEqual([{ url: 'http://a', change: 'resized' }])
    await more(20)
    const answers = await end()
    expect(new Set(answers)).toEqual(new Set(['v1', 'v4']))
    expect(answers.at(-1)).toBe('v4')
    expect(session.clusters.map(({ url }) => url).sort()).toEqual(['http://a', 'http://c'])
    expect(session.cluster('http://a').size).toBe(5)
  })

  it('reports what fails, does the rest, and knows what runs', async () => {
    const { session, toService } = setUp()
    const first = config('  http://a: { size: 1 }')
    await applyConfig(session, undefined, first, toService)
    const { end } = load(session, 'http://a')
    const second = config(
      '  http://a: { provider: broken, startTimeout: 200 }\n  http://b: {}\n  http://c: { command: [x] }',
    )
    const applied = await applyConfig(session, first, second, toService)
    expect(applied.succeeded).toEqual([{ url: 'http://b', change: 'added' }])
    expect(applied.failed.map(({ url, change, error }) => [url, change, error])).toEqual([
      ['http://c', 'added', expect.objectContaining({ code: 'MANYHOST_UNSUPPORTED' })],
      ['http://a', 'changed', expect.objectContaining({ code: 'MANYHOST_START_FAILED' })],
    ])
    expect(applied.running.services.map(({ url }) => url)).toEqual(['http://b', 'http://a'])
    expect(new Set(await end())).toEqual(new Set(['v1']))
    // The next time it is tried again.
    const again = await applyConfig(
      session,
      applied.running,
      config('  http://a: { concurrency: 2 }'),
      toService,
    )
    expect(again.succeeded.map(({ url, change }) => `${change} ${url}`).sort()).toEqual([
      'changed http://a',
      'removed http://b',
    ])
  })

  it('tries again what failed for its provider alone', async () => {
    const { session, toService } = setUp()
    const file = (type: string) =>
      loadConfig(
        {
          text: `services: { http://a: { provider: p, startTimeout: 200 } }\nproviders: { p: { type: ${type} } }`,
        },
        {},
        TYPES,
      )
    const by =
      (config: Config): ToServiceOptions =>
      (service) =>
        toService({ ...service, provider: config.providers.p?.type }, config)
    const [good, bad] = [file('near'), file('broken')]
    await applyConfig(session, undefined, good, by(good))
    const { running, failed } = await applyConfig(session, good, bad, by(bad))
    expect(failed).toHaveLength(1)
    expect((await applyConfig(session, running, bad, by(bad))).failed).toHaveLength(1)
    expect(await applyConfig(session, running, good, by(good))).toMatchObject({
      succeeded: [],
      failed: [],
    })
    await session.remove('http://a')
    const none = await applyConfig(session, good, config(''), toService)
    expect(none.succeeded).toEqual([{ url: 'http://a', change: 'removed' }])
  })

  it('does one after the other', async () => {
    const { session, toService, calls } = setUp()
    const none = config('')
    const [a, b] = [config('  http://a: {}'), config('  http://b: {}')]
    // All of them believe that nothing runs yet.
    const applied = await Promise.all([
      applyConfig(session, undefined, a, toService),
      applyConfig(session, undefined, b, toService),
      applyConfig(session, undefined, a, toService),
      applyConfig(session, none, none, toService),
    ])
    expect(applied.flatMap(({ failed }) => failed)).toEqual([])
    expect(
      applied.map(({ succeeded: done }) =>
        done.map(({ url, change }) => `${change} ${url}`).sort(),
      ),
    ).toEqual([
      ['added http://a'],
      ['added http://b', 'removed http://a'],
      ['added http://a', 'removed http://b'],
      ['removed http://a'],
    ])
    expect(calls).toEqual(['http://a', 'http://b', 'http://a'])
    expect(session.clusters).toEqual([])
  })

  it('keeps the instances of a balancer that changes', async () => {
    const { session, toService } = setUp()
    const size = 'size: { balancer: idle-to-zero, active: 4, max: 6 }'
    const first = config(`  http://a: { ${size} }`)
    await applyConfig(session, undefined, first, toService)
    await session.client().get('http://a')
    expect(session.cluster('http://a').size).toBe(4)
    const next = config(`  http://a: { concurrency: 2, ${size} }`)
    expect((await applyConfig(session, first, next, toService)).failed).toEqual([])
    const { concurrency, size: now } = session.cluster('http://a')
    expect([concurrency, now]).toEqual([2, 4])
  })
})

import { readdirSync, readlinkSync } from 'node:fs'
import type { Socket } from 'node:net'
import { Readable } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { fixed } from '../../providers/static.ts'
import type { NodeRequest } from '../../providers/testing/index.ts'
import type { RequestOptions, ServiceOptions } from '../../src/index.ts'
import { useFalseClock } from '../clock.ts'
import {
  openRawServer,
  openService,
  openSession,
  readBody,
  type ServiceFixture,
} from '../fakes/service.ts'
import { countStates, nextEvent, waitUntil } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'

expectNothingLeft()

const KILL = { 'x-kill': '1' }

/** Two instances; the one that gets an attempt 1 with `x-kill` dies, before the head or in the middle of the answer. */
function mortal(
  when: 'before' | 'middle',
  options: Partial<ServiceOptions> = {},
): ServiceFixture & { seen: NodeRequest[]; bodies: string[] } {
  const seen: NodeRequest[] = []
  const bodies: string[] = []
  const made = openService(
    async (req, res) => {
      seen.push(req)
      const body = await readBody(req).catch(() => undefined)
      if (!body) return
      bodies.push(body.length > 100 ? `${body.length} bytes` : body.toString())
      const dies = req.headers['x-kill'] === '1' && req.headers['x-manyhost-attempt'] === '1'
      const kill = (): void =>
        made.provider.instances.find(({ id }) => id === req.instance)?.kill('killed')
      if (dies && when === 'before') return kill()
      if (dies) {
        res.writeHead(200, { 'content-length': 10 })
        res.write('12345', () => setImmediate(kill))
      } else res.end('1234567890')
    },
    { initSize: 2, ...options },
  )
  return { ...made, seen, bodies }
}

describe('an instance that dies', () => {
  test('before the head, or in the middle of a held answer: sent again, the same request', async () => {
    for (const when of ['before', 'middle'] as const) {
      const { client, session, seen } = mortal(when)
      const res = await client.post('http://calc/', { headers: KILL, json: 1 })
      expect(await res.text()).toBe('1234567890')
      const of = (name: string): unknown[] => seen.map(({ headers }) => headers[name])
      expect(of('x-manyhost-attempt')).toEqual(['1', '2'])
      expect(new Set(of('x-request-id')).size).toBe(1)
      expect(of('idempotency-key')).toEqual(of('x-request-id'))
      expect(new Set(seen.map(({ instance }) => instance)).size).toBe(2)
      expect(res.timing?.attempts).toMatchObject([
        { attempt: 1, instance: seen[0]?.instance },
        { attempt: 2, instance: seen[1]?.instance },
      ])
      expect(session.cluster('http://calc').stats()).toMatchObject({
        resends: 1,
        executedTwice: 1,
        completions: 1,
      })
    }
  })

  test("the caller's own ids are kept", async () => {
    const { client, seen } = mortal('before')
    const headers = { ...KILL, 'X-Request-Id': 'mine' }
    await client.post('http://calc/', { headers, idempotencyKey: 'key' })
    for (const { headers } of seen) {
      expect([headers['x-request-id'], headers['idempotency-key']]).toEqual(['mine', 'key'])
    }
  })

  test('in the middle of an answer that is passed on: an error that says so', async () => {
    const { client } = mortal('middle', { holdLimit: 9 })
    const res = await client.get('http://calc/', { headers: KILL })
    await expect(res.text()).rejects.toMatchObject({
      code: 'MANYHOST_RESPONSE_INTERRUPTED',
      retryable: true,
      attempts: [{ attempt: 1 }],
    })
  })

  test.each([
    ['never', 'GET', undefined, 'MANYHOST_NOT_RESENT'],
    ['idempotent', 'POST', undefined, 'MANYHOST_NOT_RESENT'],
    ['idempotent', 'POST', 'key', 200],
    ['idempotent', 'PUT', undefined, 200],
    ['always', 'PATCH', undefined, 200],
  ] as const)('resend: %s, %s, key %s: %s', async (resend, method, idempotencyKey, outcome) => {
    for (const where of ['service', 'request']) {
      const { client } = mortal('before', where === 'service' ? { resend } : {})
      const options = {
        headers: KILL,
        ...(where === 'request' && { resend }),
        ...(idempotencyKey && { idempotencyKey }),
      }
      const got = await client.request(method, 'http://calc/', options).then(
        ({ status }) => status,
        ({ code }) => code,
      )
      expect(got).toBe(outcome)
    }
  })

  test('bodies are replayed: from memory, from a file that is gone afterwards, from a factory', async () => {
    const { client, bodies } = mortal('before', { replayLimit: 100_000 })
    const large = (): Readable =>
      Readable.from(Array.from({ length: 50 }, () => Buffer.alloc(10_000, 'x')))
    let made = 0
    const all: [unknown, string][] = [
      ['text', 'text'],
      [Buffer.from('bytes'), 'bytes'],
      [Readable.from(['str', 'eam']), 'stream'],
      [large(), '500000 bytes'],
      [() => `made ${++made}`, 'made 1'],
    ]
    for (const [body, seen] of all) {
      bodies.length = 0
      const res = await client.post('http://calc/', { headers: KILL, body } as RequestOptions)
      expect(res.status).toBe(200)
      expect(bodies).toEqual([seen, seen.replace('made 1', 'made 2')])
    }
    await waitUntil(() => spills() === 0)
  })

  test('a spilled body leaves no file behind when its request is given up', async () => {
    const { client } = mortal('before', { replayLimit: 0, initSize: 1, concurrency: 100 })
    for (let turns = 0; turns < 40; turns++) {
      const gone = new AbortController()
      const body = Readable.from(Array.from({ length: 5 }, () => Buffer.alloc(100_000, 'x')))
      const asked = client
        .post('http://calc/', { body, signal: gone.signal })
        .catch(() => undefined)
      for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve))
      gone.abort()
      await asked
    }
    await waitUntil(() => spills() === 0)
  })
})

test('a request is not used up by an instance that fails fast and is up again, while the good one is busy', async () => {
  const clock = useFalseClock()
  const bad = await openRawServer((socket) => socket.destroy())
  const held: Socket[] = []
  const good = await openRawServer((socket) => void held.push(socket))
  const session = openSession(fixed({ urls: [bad.url, good.url] }))
  const cluster = session.startup({ url: 'http://calc', initSize: 2 })
  await clock.passUntil(1, () => countStates(session, 'http://calc').ready === 2)
  const client = session.client()
  const long = client.get('http://calc/long')
  const badOne = cluster.instances.find(({ address }) => address === bad.url)
  await waitUntil(() => held.length === 1 && badOne?.target?.open === true)
  const resent = nextEvent(session, 'resend', ({ id }) => id === 'lost')
  const lost = client.get('http://calc/', { headers: { 'x-request-id': 'lost' } })
  await resent
  // It passes its probe while the request is sent again; no time passes, so that no deferTimeout ends.
  await waitUntil(() => badOne?.target?.open === true)
  expect([cluster.requestQueue.size, badOne?.inFlight]).toEqual([1, 0])
  for (const answer of [long, lost]) {
    await waitUntil(() => held.length === 1)
    held.pop()?.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok')
    expect(await (await answer).text()).toBe('ok')
  }
  const { attempts } = (await lost).timing ?? {}
  expect(attempts?.map(({ instance }) => instance === badOne?.id)).toEqual([true, false])
})

/** Open files of bodies. */
function spills(): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes('manyhost-body-')
    } catch {
      return false
    }
  }).length
}

describe('bounds', () => {
  test('a poison request names its attempts', async () => {
    const made = openService(
      (req) => made.provider.instances.find(({ id }) => id === req.instance)?.kill('poisoned'),
      { initSize: 2, maxAttempts: 3 },
    )
    const error = await made.client.get('http://calc/p').catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({
      code: 'MANYHOST_ATTEMPTS_EXHAUSTED',
      retryable: false,
      message: expect.stringMatching(/GET http:\/\/calc \/p: gave up after 3 attempts: calc-/),
      attempts: [{ attempt: 1 }, { attempt: 2 }, { attempt: 3 }],
    })
  })

  test('handed back unserved: sent again whatever `resend` says', async () => {
    let count = 0
    const { client } = openService(
      (req, res) => {
        req.resume()
        if (++count > 2) return res.end('served')
        return res.writeHead(503, { 'X-Manyhost-Return': '1' }).end('not me')
      },
      { initSize: 2, resend: 'never' },
    )
    const res = await client
      .post('http://calc/', { body: Readable.from(['x']) as never })
      .catch((e) => e)
    // A stream that is not kept cannot be sent twice.
    expect(res.code).toBe('MANYHOST_BODY_FAILED')
    count = 0
    const other = await client.post('http://calc/', { body: 'x' })
    expect([other.status, await other.text(), count]).toEqual([200, 'served', 3])
    expect(other.timing?.attempts.map(({ reason }) => reason)).toEqual([
      'returned',
      'returned',
      undefined,
    ])
  })

  test('a deadline over all attempts; it also ends a request that waits', async () => {
    const { client } = openService(() => undefined, { attemptTimeout: 30, maxAttempts: 100 })
    const error = await client.get('http://calc/', { timeout: 100 }).catch((thrown) => thrown)
    expect(error).toMatchObject({ code: 'MANYHOST_TIMEOUT', name: 'TimeoutError' })
    const { client: other } = openService(() => undefined, { initSize: 0 })
    await expect(other.get('http://calc/', { timeout: 5 })).rejects.toThrow(
      '5 ms passed while it waited for an instance',
    )
  })

  test('a body that throws is not sent again, and its instance not blamed', async () => {
    const { client, session } = openService((req) => void req.resume(), { ejectAfter: 1 })
    const cluster = session.cluster('http://calc')
    for (const keep of ['always', 'never'] as const) {
      const body = (async function* () {
        yield 'x'
        throw new Error('midway')
      })()
      await expect(client.post('http://calc/', { body, resend: keep })).rejects.toMatchObject({
        code: 'MANYHOST_BODY_FAILED',
        message: expect.stringContaining('midway'),
      })
    }
    expect(cluster.stats()).toMatchObject({ resends: 0, ejections: 0 })
    expect(cluster.instances[0]?.state).toBe('ready')
    await waitUntil(() => cluster.inFlight === 0)
  })
})

/** Claims, leases, and what was weak in the original (FACTS 5d, by number). */
import { connect } from 'node:net'
import { describe, expect, it, onTestFinished } from 'vitest'
import { useFalseClock } from '../../clock.ts'
import { rejectionOf, waitUntil } from '../../help.ts'
import {
  completeJob,
  createStorePath,
  LONG_POLL_SECONDS,
  openTestHub,
  type TestHub,
} from './help.ts'

describe('claims', () => {
  it('5d (2): two workers that claim at once, 1,000 times, never get the same job', async () => {
    const hub = await openTestHub()
    const service = await hub.service()
    const seen = new Set<string>()
    for (let round = 0; round < 1_000; round++) {
      await hub.submit(service, { a: 1 })
      const claims = await Promise.all([hub.claim(service, 'one'), hub.claim(service, 'two')])
      const got = claims.filter(({ status }) => status === 200)
      expect(got).toHaveLength(1)
      seen.add(got[0]?.body.data.id)
    }
    expect(seen.size).toBe(1_000)
  }, 600_000)

  it('two workers that wait get one job each', async () => {
    const hub = await openTestHub()
    const service = await hub.service()
    const waits = [
      hub.claim(service, 'one', LONG_POLL_SECONDS),
      hub.claim(service, 'two', LONG_POLL_SECONDS),
    ]
    await hub.shows('waiting', 2)
    const first = await hub.submit(service, { a: 1 })
    const winner = await Promise.race(waits)
    expect(winner.body.data.id).toBe(first.slice(6))
    const second = await hub.submit(service, { a: 2 })
    const ids = (await Promise.all(waits)).map(({ body }) => body.data.id)
    expect(new Set(ids)).toEqual(new Set([first.slice(6), second.slice(6)]))
  })

  it.each(['ends its half', 'is gone'])('a worker that waits and %s gets no job', async (what) => {
    const hub = await openTestHub()
    const service = await hub.service()
    const { hostname, port } = new URL(hub.url)
    const socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true })
    onTestFinished(() => void socket.destroy())
    let text = ''
    socket.on('data', (chunk) => {
      text += chunk
    })
    socket.write(
      `GET ${service}/next HTTP/1.1\r\nHost: ${hostname}\r\nX-Manyhost-Worker: one\r\nPrefer: wait=${LONG_POLL_SECONDS}\r\n\r\n`,
    )
    await hub.shows('waiting', 1)
    if (what === 'is gone') socket.destroy()
    else socket.end()
    await hub.shows('waiting', 0)
    const job = await hub.submit(service, { a: 1 })
    // A worker that is still there gets an answer.
    if (what !== 'is gone') await waitUntil(() => /^HTTP\/1.1 204 /.test(text))
    expect((await hub.claim(service, 'two')).body.data.id).toBe(job.slice(6))
  })

  it('a long poll ends with 204 after the seconds that Preference-Applied says', async () => {
    const clock = useFalseClock()
    const polled = async (hub: TestHub, seconds: number) => {
      const claim = hub.claim(await hub.service(), 'one', seconds)
      await hub.shows('waiting', 1)
      await clock.pass(999)
      await hub.shows('waiting', 1)
      await clock.pass(1)
      const { status, headers } = await claim
      return [status, headers.get('preference-applied')]
    }
    expect(await polled(await openTestHub(), 1)).toEqual([204, 'wait=1'])
    expect(await polled(await openTestHub({ maxWait: 1_000 }), 999_999)).toEqual([204, 'wait=1'])
  })

  it('a worker that hangs up while it waits gets no job', async () => {
    const hub = await openTestHub()
    const service = await hub.service()
    const gone = new AbortController()
    const headers = { prefer: 'wait=30' }
    const waiting = rejectionOf(hub.ask('GET', `${service}/next`, { headers, signal: gone.signal }))
    await hub.shows('waiting', 1)
    gone.abort(new Error('gone'))
    await waiting
    // The hub learns of it a moment later.
    await hub.shows('waiting', 0)
    const job = await hub.submit(service, { a: 1 })
    const claim = await hub.claim(service, 'two', LONG_POLL_SECONDS)
    expect(claim.body.data.id).toBe(job.slice(6))
  })

  it('a lease that runs out gives the job to another; the late result is 409', async () => {
    const clock = useFalseClock()
    const hub = await openTestHub({ lease: 200 })
    const service = await hub.service()
    const job = await hub.submit(service, { a: 1 })
    const late = await hub.claim(service, 'slow')
    await clock.pass(199)
    expect((await hub.claim(service, 'quick')).status).toBe(204)
    await clock.pass(1)
    const other = await hub.claim(service, 'quick')
    expect(other.body.data.id).toBe(job.slice(6))
    const refused = await completeJob(hub, late, { b: 1 }, 'slow')
    expect([refused.status, refused.body.errors[0].title]).toEqual([409, 'Conflict'])
    expect((await completeJob(hub, other, { b: 2 }, 'quick')).status).toBe(200)
    expect((await completeJob(hub, late, { b: 1 }, 'slow')).status).toBe(409)
    expect((await hub.ask('GET', job)).body.data.results).toEqual({ b: 2 })
    // The same result with the same lease again, as after an answer that was lost.
    expect((await completeJob(hub, other, { b: 2 }, 'quick')).status).toBe(200)
  })

  it('PATCH WORKING, or the check-in of a worker with a name, keeps the lease', async () => {
    const clock = useFalseClock()
    const hub = await openTestHub({ lease: 400 })
    const service = await hub.service()
    const job = await hub.submit(service, { a: 1 })
    const claim = await hub.claim(service, 'one')
    const lease = claim.headers.get('x-manyhost-lease') ?? ''
    const headers = { 'x-manyhost-worker': 'one', 'x-manyhost-lease': lease }
    const json = { status: 'WORKING' }
    for (let i = 0; i < 6; i++) {
      await clock.pass(399)
      expect((await hub.ask('PATCH', service, { headers })).status).toBe(200)
      await clock.pass(399)
      expect((await hub.ask('PATCH', job, { json, headers })).status).toBe(200)
    }
    await clock.pass(399)
    expect((await hub.claim(service, 'two')).status).toBe(204)
    expect((await completeJob(hub, claim, { b: 1 }, 'one')).status).toBe(200)
  })

  it('5d (4): a worker that misses its timeout loses its jobs; an unavailable service takes none', async () => {
    const clock = useFalseClock()
    const hub = await openTestHub({ slack: 1 })
    const service = await hub.service({ timeout: 0.2 })
    const job = await hub.submit(service, { a: 1 })
    expect((await hub.claim(service, 'one')).status).toBe(200)
    await clock.pass(200)
    expect((await hub.claim(service, 'two')).status).toBe(204)
    await clock.pass(1)
    expect((await hub.claim(service, 'two')).body.data.id).toBe(job.slice(6))
    await hub.ask('PATCH', service, { json: { is_available: false } })
    const shut = await hub.ask('POST', `${service}/jobs`, { json: { parameters: { a: 1 } } })
    expect([shut.status, shut.body.errors[0].title]).toEqual([503, 'Service Unavailable'])
    await hub.ask('PATCH', service, { json: { is_available: true } })
    expect(await hub.submit(service, { a: 1 })).toMatch(/^\/jobs\//)
  })

  it('a job that was claimed maxAttempts times ends as ERROR, with the reason', async () => {
    const clock = useFalseClock()
    const hub = await openTestHub({ lease: 30, maxAttempts: 3 })
    const service = await hub.service()
    const job = await hub.submit(service, { a: 1 })
    for (let i = 0; i < 3; i++) {
      expect((await hub.claim(service, `w${i}`)).status).toBe(200)
      expect((await hub.ask('GET', job)).body.data.status).toBe('WORKING')
      await clock.pass(30)
    }
    const { data } = (await hub.ask('GET', job)).body
    expect(data.status).toBe('ERROR')
    expect(data.reason).toBe('given up after 3 claims: the lease of worker w2 ran out')
  })

  it('5d (3): states go forward only', async () => {
    const hub = await openTestHub()
    const service = await hub.service()
    const job = await hub.submit(service, { a: 1 })
    const to = async (json: object) => (await hub.ask('PATCH', job, { json })).status
    expect(await to({ status: 'REGISTERED' })).toBe(200)
    expect(await to({ status: 'WORKING' })).toBe(200)
    expect(await to({ status: 'REGISTERED' })).toBe(409)
    expect(await to({ status: 'COMPLETED', results: { b: 1 } })).toBe(200)
    for (const status of ['REGISTERED', 'WORKING', 'ERROR', 'COMPLETED']) {
      expect(await to({ status, results: { b: 2 } })).toBe(409)
    }
    expect((await hub.ask('GET', job)).body.data).toMatchObject({
      status: 'COMPLETED',
      results: { b: 1 },
    })
  })

  it('PATCH WORKING claims a job of the queue, as clients of the original do', async () => {
    const hub = await openTestHub()
    const service = await hub.service()
    const job = await hub.submit(service, { a: 1 })
    const mine = { headers: { 'x-manyhost-worker': 'one' }, json: { status: 'WORKING' } }
    const theirs = { headers: { 'x-manyhost-worker': 'two' }, json: { status: 'WORKING' } }
    expect((await hub.ask('PATCH', job, mine)).status).toBe(200)
    expect((await hub.ask('PATCH', job, theirs)).status).toBe(409)
    expect((await hub.claim(service)).status).toBe(204)
  })

  it('5d (6): DELETE cancels a job, claimed or not', async () => {
    const hub = await openTestHub()
    const service = await hub.service()
    const [one, two] = [await hub.submit(service, { a: 1 }), await hub.submit(service, { a: 2 })]
    const claim = await hub.claim(service, 'w')
    const cancelled = await hub.ask('DELETE', one)
    expect(cancelled.body.data).toMatchObject({ status: 'ERROR', reason: 'cancelled' })
    expect((await completeJob(hub, claim, { b: 1 }, 'w')).status).toBe(409)
    await hub.ask('DELETE', two)
    expect((await hub.ask('DELETE', two)).status).toBe(409)
    expect((await hub.claim(service)).status).toBe(204)
  })
})

describe('what was weak in the original', () => {
  it('5d (1): each job has a date of its own, and they are served in their order', async () => {
    const clock = useFalseClock()
    const hub = await openTestHub()
    const service = await hub.service()
    const before = Date.now()
    const dates: number[] = []
    for (let a = 0; a < 5; a++) {
      const { body } = await hub.ask('POST', `${service}/jobs`, { json: { parameters: { a } } })
      dates.push(Date.parse(body.data.date_submitted))
      await clock.pass(1)
    }
    expect(dates).toEqual([0, 1, 2, 3, 4].map((ms) => before + ms))
    for (let a = 0; a < 5; a++) {
      expect((await hub.claim(service)).body.data.parameters).toEqual({ a })
    }
  })

  it('5d (5): an invalid schema is refused when it is registered', async () => {
    const hub = await openTestHub()
    for (const schema of [
      { type: 'strange' },
      { properties: [] },
      { pattern: '(' },
      { $ref: 'http://x.test/y' },
      { $async: true },
      { $schema: 'http://x.test/draft' },
    ]) {
      const json = {
        name: 'x',
        description: '',
        job_registration_schema: schema,
        job_result_schema: {},
      }
      const { status, body } = await hub.ask('POST', '/services', { json })
      expect([status, body.errors[0].title]).toEqual([400, 'Invalid JSON Schema'])
    }
  })

  it('5d (6): a token for the hub, and one for a service', async () => {
    const hub = await openTestHub({ token: 'hub-secret' })
    const as = (token: string) => ({ headers: { authorization: `Bearer ${token}` } })
    const json = {
      name: 's',
      description: '',
      job_registration_schema: {},
      job_result_schema: {},
      token: 'own',
    }
    expect((await hub.ask('POST', '/services', { json })).status).toBe(401)
    const made = await hub.ask('POST', '/services', { json, ...as('hub-secret') })
    const service = made.headers.get('location') as string
    for (const path of [
      '/',
      '/services',
      service,
      '/jobs',
      `${service}/next`,
      `${service}/queue`,
      '/jobs/00000000-0000-4000-8000-000000000000',
    ]) {
      const refused = await hub.ask('GET', path)
      expect([path, refused.status]).toEqual([path, 401])
      expect(refused.headers.get('www-authenticate')).toMatch(/^Bearer/)
      expect((await hub.ask('GET', path, as('wrong'))).status).toBe(401)
      expect((await hub.ask('GET', path, as('hub-secret'))).status).not.toBe(401)
    }
    expect((await hub.ask('GET', service, as('own'))).status).toBe(200)
    expect((await hub.ask('GET', '/jobs', as('own'))).status).toBe(401)
    const other = await hub.ask('POST', '/services', {
      json: { ...json, token: 'theirs' },
      ...as('hub-secret'),
    })
    expect((await hub.ask('GET', other.headers.get('location') as string, as('own'))).status).toBe(
      401,
    )
    // No token is shown anywhere.
    const shown = await hub.ask('GET', service, as('own'))
    expect(shown.text).not.toMatch(/own|hub-secret|token/)
    const job = await hub.ask('POST', `${service}/jobs`, { json: { parameters: {} }, ...as('own') })
    expect((await hub.ask('GET', job.headers.get('location') as string, as('theirs'))).status).toBe(
      401,
    )
  })

  it('5d (7): 32 clients at once work without an error', async () => {
    const hub = await openTestHub({ store: createStorePath() })
    const service = await hub.service()
    const work = async (index: number) => {
      for (let i = 0; i < 10; i++) {
        expect(await hub.submit(service, { a: i })).toMatch(/^\/jobs\//)
        const claim = await hub.claim(service, `w${index}`, LONG_POLL_SECONDS)
        expect((await completeJob(hub, claim, { b: i }, `w${index}`)).status).toBe(200)
      }
    }
    await Promise.all(Array.from({ length: 32 }, (_, index) => work(index)))
    expect((await hub.ask('GET', `${service}/queue`)).status).toBe(204)
  }, 120_000)

  it('5d (8): takes parameters of 500,000 bytes, and refuses those above bodySize', async () => {
    const hub = await openTestHub({ store: createStorePath() })
    const service = await hub.service()
    const text = 'x'.repeat(500_000)
    await hub.submit(service, { a: 1, text })
    expect((await hub.claim(service)).body.data.parameters.text).toHaveLength(500_000)
    const large = { a: 1, text: 'x'.repeat(1_100_000) }
    const { status } = await hub.ask('POST', `${service}/jobs`, { json: { parameters: large } })
    expect(status).toBe(413)
  })

  it('5d (9): errors are JSON', async () => {
    const hub = await openTestHub()
    for (const [method, path] of [
      ['GET', '/x'],
      ['DELETE', '/services'],
      ['PATCH', '/'],
    ]) {
      const { headers, body } = await hub.ask(method as string, path as string)
      expect(headers.get('content-type')).toBe('application/json')
      expect(body.errors[0].detail).toBeTypeOf('string')
    }
  })
})

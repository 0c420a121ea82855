/** Claims, leases, and what was weak in the original (FACTS 5d, by number). */
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { workers } from '../../providers/pull/index.ts'
import { SqliteStore } from '../../providers/pull/sqlite.ts'
import { falseClock } from '../clock.ts'
import { failure } from '../help.ts'
import { finish, LONG, openHub, type TestHub } from './help.ts'

function tempFile(): string {
  const folder = mkdtempSync(join(tmpdir(), 'manyhost-pull-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return join(folder, 'jobs.db')
}

describe('claims', () => {
  it('5d (2): two workers that claim at once, 1,000 times, never get the same job', async () => {
    const hub = await openHub()
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

  it('two that wait at once: one job, one claim', async () => {
    const hub = await openHub()
    const service = await hub.service()
    const waits = [hub.claim(service, 'one', LONG), hub.claim(service, 'two', LONG)]
    await hub.shows('waiting', 2)
    const first = await hub.submit(service, { a: 1 })
    const winner = await Promise.race(waits)
    expect(winner.body.data.id).toBe(first.slice(6))
    const second = await hub.submit(service, { a: 2 })
    const ids = (await Promise.all(waits)).map(({ body }) => body.data.id)
    expect(new Set(ids)).toEqual(new Set([first.slice(6), second.slice(6)]))
  })

  it('a long poll says how long it waited for, and ends with 204', async () => {
    const clock = falseClock()
    const polled = async (hub: TestHub, seconds: number) => {
      const claim = hub.claim(await hub.service(), 'one', seconds)
      await hub.shows('waiting', 1)
      await clock.pass(999)
      await hub.shows('waiting', 1)
      await clock.pass(1)
      const { status, headers } = await claim
      return [status, headers.get('preference-applied')]
    }
    expect(await polled(await openHub(), 1)).toEqual([204, 'wait=1'])
    expect(await polled(await openHub({ maxWait: 1_000 }), 999_999)).toEqual([204, 'wait=1'])
  })

  it('a worker that hangs up while it waits is given nothing', async () => {
    const hub = await openHub()
    const service = await hub.service()
    const gone = new AbortController()
    const headers = { prefer: 'wait=30' }
    const waiting = failure(hub.ask('GET', `${service}/next`, { headers, signal: gone.signal }))
    await hub.shows('waiting', 1)
    gone.abort(new Error('gone'))
    await waiting
    const job = await hub.submit(service, { a: 1 })
    const claim = await hub.claim(service, 'two', LONG)
    expect(claim.body.data.id).toBe(job.slice(6))
  })

  it('a lease that runs out gives the job to another; the late result is 409', async () => {
    const clock = falseClock()
    const hub = await openHub({ lease: 200 })
    const service = await hub.service()
    const job = await hub.submit(service, { a: 1 })
    const late = await hub.claim(service, 'slow')
    await clock.pass(199)
    expect((await hub.claim(service, 'quick')).status).toBe(204)
    await clock.pass(1)
    const other = await hub.claim(service, 'quick')
    expect(other.body.data.id).toBe(job.slice(6))
    const refused = await finish(hub, late, { b: 1 }, 'slow')
    expect([refused.status, refused.body.errors[0].title]).toEqual([409, 'Conflict'])
    expect((await finish(hub, other, { b: 2 }, 'quick')).status).toBe(200)
    expect((await finish(hub, late, { b: 1 }, 'slow')).status).toBe(409)
    expect((await hub.ask('GET', job)).body.data.results).toEqual({ b: 2 })
    // The same result by the same claim once more: its answer was lost, not the result.
    expect((await finish(hub, other, { b: 2 }, 'quick')).status).toBe(200)
  })

  it('PATCH WORKING, or the check-in of a worker with a name, keeps the lease', async () => {
    const clock = falseClock()
    const hub = await openHub({ lease: 400 })
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
    expect((await finish(hub, claim, { b: 1 }, 'one')).status).toBe(200)
  })

  it('5d (4): a worker that misses its timeout loses its jobs; an unavailable service takes none', async () => {
    const clock = falseClock()
    const hub = await openHub({ slack: 1 })
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

  it('a job whose every worker dies ends as ERROR, with the reason', async () => {
    const clock = falseClock()
    const hub = await openHub({ lease: 30, maxAttempts: 3 })
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
    const hub = await openHub()
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

  it('a worker that has a job by its queue, as clients of the original do, claims it by PATCH', async () => {
    const hub = await openHub()
    const service = await hub.service()
    const job = await hub.submit(service, { a: 1 })
    const mine = { headers: { 'x-manyhost-worker': 'one' }, json: { status: 'WORKING' } }
    const theirs = { headers: { 'x-manyhost-worker': 'two' }, json: { status: 'WORKING' } }
    expect((await hub.ask('PATCH', job, mine)).status).toBe(200)
    expect((await hub.ask('PATCH', job, theirs)).status).toBe(409)
    expect((await hub.claim(service)).status).toBe(204)
  })

  it('5d (6): DELETE cancels, whoever has it', async () => {
    const hub = await openHub()
    const service = await hub.service()
    const [one, two] = [await hub.submit(service, { a: 1 }), await hub.submit(service, { a: 2 })]
    const claim = await hub.claim(service, 'w')
    const cancelled = await hub.ask('DELETE', one)
    expect(cancelled.body.data).toMatchObject({ status: 'ERROR', reason: 'cancelled' })
    expect((await finish(hub, claim, { b: 1 }, 'w')).status).toBe(409)
    await hub.ask('DELETE', two)
    expect((await hub.ask('DELETE', two)).status).toBe(409)
    expect((await hub.claim(service)).status).toBe(204)
  })
})

describe('what was weak in the original', () => {
  it('5d (1): each job has a date of its own, and they are served in their order', async () => {
    const clock = falseClock()
    const hub = await openHub()
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

  it('5d (5): what is no schema is refused when it is registered', async () => {
    const hub = await openHub()
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
    const hub = await openHub({ token: 'hub-secret' })
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
    // Neither is shown anywhere.
    const shown = await hub.ask('GET', service, as('own'))
    expect(shown.text).not.toMatch(/own|hub-secret|token/)
    const job = await hub.ask('POST', `${service}/jobs`, { json: { parameters: {} }, ...as('own') })
    expect((await hub.ask('GET', job.headers.get('location') as string, as('theirs'))).status).toBe(
      401,
    )
  })

  it('5d (7): many clients at once, and none of them is failed', async () => {
    const hub = await openHub({ store: tempFile() })
    const service = await hub.service()
    const work = async (index: number) => {
      for (let i = 0; i < 10; i++) {
        expect(await hub.submit(service, { a: i })).toMatch(/^\/jobs\//)
        const claim = await hub.claim(service, `w${index}`, LONG)
        expect((await finish(hub, claim, { b: i }, `w${index}`)).status).toBe(200)
      }
    }
    await Promise.all(Array.from({ length: 32 }, (_, index) => work(index)))
    expect((await hub.ask('GET', `${service}/queue`)).status).toBe(204)
  }, 120_000)

  it('5d (8): parameters of more than 100,000 bytes', async () => {
    const hub = await openHub({ store: tempFile() })
    const service = await hub.service()
    const text = 'x'.repeat(500_000)
    await hub.submit(service, { a: 1, text })
    expect((await hub.claim(service)).body.data.parameters.text).toHaveLength(500_000)
    const large = { a: 1, text: 'x'.repeat(1_100_000) }
    const { status } = await hub.ask('POST', `${service}/jobs`, { json: { parameters: large } })
    expect(status).toBe(413)
  })

  it('5d (9): whatever goes wrong is JSON', async () => {
    const hub = await openHub()
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

describe('bounds', () => {
  it('a pattern that backtracks without end is ended, and the hub lives on', async () => {
    const hub = await openHub()
    const schema = { type: 'object', properties: { s: { type: 'string', pattern: '^(a+)+$' } } }
    const service = await hub.service({ job_registration_schema: schema })
    const bad = { parameters: { s: `${'a'.repeat(60)}!` } }
    const { status, body } = await hub.ask('POST', `${service}/jobs`, { json: bad })
    expect([status, body.errors[0].detail]).toEqual([
      400,
      'the check was ended: it took longer than 250 ms',
    ])
    expect(await hub.submit(service, { s: 'aaa' })).toMatch(/^\/jobs\//)
  })

  it('JSON that is too deep, and queues that are too long', async () => {
    const hub = await openHub({ maxJobs: 2, maxWorkers: 1, maxServices: 1 })
    const service = await hub.service()
    const deep = `{"parameters":{"a":1,"x":${'['.repeat(100)}${']'.repeat(100)}}}`
    const headers = { 'content-type': 'application/json' }
    const { status, body } = await hub.ask('POST', `${service}/jobs`, { text: deep, headers })
    expect([status, body.errors[0].title]).toEqual([400, 'JSON Too Deep'])
    await hub.submit(service, { a: 1 })
    await hub.submit(service, { a: 1 })
    const full = await hub.ask('POST', `${service}/jobs`, { json: { parameters: { a: 1 } } })
    expect([full.status, full.headers.get('retry-after')]).toEqual([503, '10'])
    expect((await hub.claim(service, 'one')).status).toBe(200)
    expect((await hub.claim(service, 'two')).status).toBe(503)
    expect((await hub.claim(service, 'a b')).status).toBe(400)
    const { name: _, ...rest } = { name: '', ...(await hub.ask('GET', service)).body.data }
    const json = { ...rest, name: 'more' }
    expect((await hub.ask('POST', '/services', { json })).status).toBe(503)
  })

  it('pages of browsers may not call it', async () => {
    const hub = await openHub()
    const foreign = { headers: { origin: 'https://evil.test' } }
    expect((await hub.ask('GET', '/services', foreign)).status).toBe(403)
    const { port } = new URL(hub.url)
    const answer = await new Promise<string>((resolve, reject) => {
      const socket = connect(Number(port), '127.0.0.1')
      socket.once('data', (data) => resolve(String(data))).once('error', reject)
      onTestFinished(() => void socket.destroy())
      socket.write('GET /services HTTP/1.1\r\nHost: rebound.test\r\n\r\n')
    })
    expect(answer).toMatch(/^HTTP\/1.1 421/)
  })

  it('it listens to others only with a token', () => {
    expect(() => workers({ listen: '0.0.0.0:0' })).toThrow(/needs a token/)
    expect(() => workers({ listen: '*:0', token: 'secret' })).not.toThrow()
    expect(() => workers({ lissen: 1 } as object)).toThrow(/unknown option 'lissen'/)
    expect(() => workers({ prefix: 'x/' })).toThrow(/prefix must be/)
    const services = { 'http://x': { jobRegistrationSchema: { type: 'y' } } }
    expect(() => workers({ services })).toThrow(/not a valid JSON Schema/)
  })
})

describe('the store', () => {
  it('T15: survives a restart: services, jobs, results, and the claims that are under way', async () => {
    const store = tempFile()
    const first = await openHub({ store })
    const service = await first.service({ token: 'own' })
    const own = { authorization: 'Bearer own' }
    const submit = async (a: number) =>
      (await first.ask('POST', `${service}/jobs`, { json: { parameters: { a } }, headers: own }))
        .body.data.id as string
    const ids = [await submit(1), await submit(2), await submit(3)]
    const headers = { ...own, 'x-manyhost-worker': 'w' }
    const done = await first.ask('GET', `${service}/next`, { headers })
    const end = { status: 'COMPLETED', results: { b: 1 } }
    await first.ask('PATCH', `/jobs/${done.body.data.id}`, { json: end, headers })
    const running = await first.ask('GET', `${service}/next`, { headers })
    const lease = running.headers.get('x-manyhost-lease') ?? ''
    await first.close()

    const second = await openHub({ store })
    const list = await second.ask('GET', `${service}/jobs`, { headers })
    expect(
      list.body.data.map(({ id, status }: { id: string; status: string }) => [id, status]),
    ).toEqual([
      [ids[0], 'COMPLETED'],
      [ids[1], 'WORKING'],
      [ids[2], 'REGISTERED'],
    ])
    expect((await second.ask('GET', service)).status).toBe(401)
    // Upsert, not replace: a service that has jobs can be changed.
    const renamed = { json: { name: 'renamed' }, headers }
    expect((await second.ask('PATCH', service, renamed)).body.data.name).toBe('renamed')
    // The worker has not noticed, and its claim holds.
    const told = await second.ask('PATCH', `/jobs/${ids[1]}`, {
      json: end,
      headers: { ...headers, 'x-manyhost-lease': lease },
    })
    expect(told.status).toBe(200)
    const next = await second.ask('GET', `${service}/next`, { headers })
    expect(next.body.data.id).toBe(ids[2])
    const later = await second.ask('POST', `${service}/jobs`, {
      json: { parameters: { a: 1 } },
      headers,
    })
    expect(later.status).toBe(201)
  })

  it('is one process’s at a time, and says so', async () => {
    const store = tempFile()
    await openHub({ store })
    const error = await failure(openHub({ store }))
    expect([error.code, error.message]).toEqual([
      'MANYHOST_INVALID_OPTION',
      expect.stringContaining(store),
    ])
  })

  it('forgets ended jobs but for the newest', async () => {
    const db = new SqliteStore(tempFile())
    onTestFinished(() => db.close())
    const row = {
      service: 's',
      submitted: 1,
      parameters: '{}',
      results: undefined,
      reason: undefined,
      worker: undefined,
      lease: undefined,
      attempts: 0,
    }
    const states = ['COMPLETED', 'WORKING', 'ERROR', 'COMPLETED', 'REGISTERED'] as const
    await Promise.all(
      states.map((status, seq) => db.addJob({ ...row, id: `${seq}`, seq: seq + 1, status })),
    )
    for (const [seq, status] of states.entries()) await db.setJob(`${seq}`, { ...row, status })
    await db.prune('s', 1)
    expect(db.jobs({ after: 0, limit: 10 }).map(({ id }) => id)).toEqual(['1', '3', '4'])
  })
})

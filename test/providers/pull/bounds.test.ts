/** Bounds on input, access, and the store of a file. */
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import Database from 'libsql'
import { describe, expect, it, onTestFinished } from 'vitest'
import { workers } from '../../../providers/pull/index.ts'
import { SqliteJobStore } from '../../../providers/pull/sqlite.ts'
import { catchThrown, rejectionOf } from '../../help.ts'
import { createStorePath, openTestHub } from './help.ts'

describe('bounds', () => {
  it('a check by a pattern that backtracks without end is ended, and the hub goes on', async () => {
    const hub = await openTestHub()
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

  it('JSON that is too deep is refused, and so is a job when the queue is full', async () => {
    const hub = await openTestHub({ maxJobs: 2, maxWorkers: 1, maxServices: 1 })
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

  it('pages in a browser are refused', async () => {
    const hub = await openTestHub()
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

  it('listens for other machines only with a token', () => {
    expect(() => workers({ listen: '0.0.0.0:0' })).toThrow(/give a token/)
    expect(() => workers({ listen: '*:0', token: 'secret' })).not.toThrow()
    expect(() => workers({ lissen: 1 } as object)).toThrow(/unknown option 'lissen'/)
    expect(() => workers({ prefix: 'x/' })).toThrow(/prefix must be/)
    const services = { 'http://x': { jobRegistrationSchema: { type: 'y' } } }
    expect(() => workers({ services })).toThrow(/not a valid JSON Schema/)
  })
})

describe('the store', () => {
  it('T15: keeps services, jobs, results and claims over a restart', async () => {
    const store = createStorePath()
    const first = await openTestHub({ store })
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

    const second = await openTestHub({ store })
    const list = await second.ask('GET', `${service}/jobs`, { headers })
    expect(
      list.body.data.map(({ id, status }: { id: string; status: string }) => [id, status]),
    ).toEqual([
      [ids[0], 'COMPLETED'],
      [ids[1], 'WORKING'],
      [ids[2], 'REGISTERED'],
    ])
    expect((await second.ask('GET', service)).status).toBe(401)
    // A service that has jobs can be changed: the row is updated, not replaced.
    const renamed = { json: { name: 'renamed' }, headers }
    expect((await second.ask('PATCH', service, renamed)).body.data.name).toBe('renamed')
    // The worker has not noticed the restart, and its claim still holds.
    const reported = await second.ask('PATCH', `/jobs/${ids[1]}`, {
      json: end,
      headers: { ...headers, 'x-manyhost-lease': lease },
    })
    expect(reported.status).toBe(200)
    const next = await second.ask('GET', `${service}/next`, { headers })
    expect(next.body.data.id).toBe(ids[2])
    const later = await second.ask('POST', `${service}/jobs`, {
      json: { parameters: { a: 1 } },
      headers,
    })
    expect(later.status).toBe(201)
  })

  it('is open in one process at a time; a second one gets an error', async () => {
    const store = createStorePath()
    await openTestHub({ store })
    const error = await rejectionOf(openTestHub({ store }))
    expect([error.code, error.message]).toEqual([
      'MANYHOST_INVALID_OPTION',
      expect.stringContaining(store),
    ])
  })

  it('does not change a database of another program, and gives an error', () => {
    const path = createStorePath()
    const other = new Database(path)
    other.exec('create table photos (id integer)')
    other.close()
    const before = readFileSync(path)
    const { message } = catchThrown(() => new SqliteJobStore(path))
    expect(message).toMatch(/it has the tables of another program \('photos'\)/)
    expect(readFileSync(path).equals(before)).toBe(true)
  })

  it('removes ended jobs except the newest', async () => {
    const db = new SqliteJobStore(createStorePath())
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

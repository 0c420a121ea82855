/** Reports on jobs: results before the status, results that cannot be reported, and workers of the original's server. */
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { JobClient, Worker } from '../../../providers/pull/index.ts'
import { Session } from '../../../src/index.ts'
import { openTopChef } from '../../fakes/topchef.ts'
import { rejectionOf, waitUntil } from '../../help.ts'
import { createStorePath, openTestHub, type TestHub } from './help.ts'

vi.setConfig({ testTimeout: 180_000 })

const CALC = 'http://calc'

async function stage(
  options: object = {},
): Promise<{ hub: TestHub; session: Session; url: string }> {
  const hub = await openTestHub(options)
  const session = new Session({ provider: hub.provider, tickInterval: 20 })
  onTestFinished(() => session.close({ force: true }))
  session.startup({ url: CALC })
  const url = `${hub.url}/services/${await hub.provider.serviceId(CALC)}`
  return { hub, session, url }
}

function run(url: string, handle: (job: never) => unknown): { worker: Worker; errors: Error[] } {
  const errors: Error[] = []
  const worker = new Worker({
    url,
    handle: handle as never,
    pollInterval: 10,
    onError: (error) => errors.push(error),
  }).start()
  onTestFinished(() => worker.stop(1_000))
  return { worker, errors }
}

describe('results and the status of a job (T6)', () => {
  const patch = async (hub: TestHub, job: string, json: object, headers: object = {}) => {
    const { status, body } = await hub.ask('PATCH', job, { json, headers: { ...headers } })
    return [status, body.status, body.results]
  }

  it('results are kept with any status; only COMPLETED or ERROR ends the job', async () => {
    const hub = await openTestHub()
    const service = await hub.service()
    const job = await hub.submit(service, { a: 1 })
    expect(await patch(hub, job, { results: { b: 1 } })).toEqual([200, 'REGISTERED', { b: 1 }])
    expect(await patch(hub, job, { status: 'WORKING' })).toEqual([200, 'WORKING', { b: 1 }])
    expect(await patch(hub, job, { status: 'WORKING', results: { b: 2 } })).toEqual([
      200,
      'WORKING',
      { b: 2 },
    ])
    expect((await hub.ask('GET', job)).body.data.results).toEqual({ b: 2 })
    expect(await patch(hub, job, { results: { b: 3 } })).toEqual([200, 'WORKING', { b: 3 }])
    expect(await patch(hub, job, { status: 'COMPLETED' })).toEqual([200, 'COMPLETED', { b: 3 }])
    expect((await hub.ask('GET', job)).body.data).toMatchObject({
      status: 'COMPLETED',
      results: { b: 3 },
    })
  })

  it.each(['WORKING', 'ERROR'])('results that come with %s are in the job', async (status) => {
    const hub = await openTestHub()
    const job = await hub.submit(await hub.service(), { a: 1 })
    await patch(hub, job, { status, results: { b: 1 } })
    expect((await hub.ask('GET', job)).body.data).toMatchObject({ status, results: { b: 1 } })
  })

  it('results that the schema refuses change nothing, with any status', async () => {
    const hub = await openTestHub()
    const job = await hub.submit(await hub.service(), { a: 1 })
    for (const status of [undefined, 'REGISTERED', 'WORKING', 'COMPLETED']) {
      expect((await patch(hub, job, { status, results: { b: 'x' } }))[0]).toBe(400)
    }
    expect((await hub.ask('GET', job)).body.data).toMatchObject({
      status: 'REGISTERED',
      results: null,
    })
  })

  it('results may follow COMPLETED, once and from the same worker', async () => {
    const hub = await openTestHub()
    const job = await hub.submit(await hub.service(), { a: 1 })
    expect(await patch(hub, job, { status: 'COMPLETED' })).toEqual([200, 'COMPLETED', null])
    const other = { 'x-manyhost-worker': 'other' }
    expect((await patch(hub, job, { results: { b: 1 } }, other))[0]).toBe(409)
    expect((await patch(hub, job, { results: { b: 'x' } }))[0]).toBe(400)
    expect(await patch(hub, job, { results: { b: 1 } })).toEqual([200, 'COMPLETED', { b: 1 }])
    expect((await patch(hub, job, { results: { b: 2 } }))[0]).toBe(409)
  })

  it('a worker cannot report on the claim of another, and a lost claim drops its results', async () => {
    const hub = await openTestHub({ maxAttempts: 9, slack: 10 })
    const service = await hub.service()
    const job = await hub.submit(service, { a: 1 })
    const [one, two] = [{ 'x-manyhost-worker': 'one' }, { 'x-manyhost-worker': 'two' }]
    await hub.claim(service, 'one')
    expect((await patch(hub, job, { results: { b: 1 } }, two))[0]).toBe(409)
    expect((await patch(hub, job, { results: { b: 1 } }, one))[0]).toBe(200)
    // A timeout of 0 s makes the hub lose the worker.
    await hub.ask('PATCH', service, { json: { timeout: 0 } })
    await waitUntil(async () => (await hub.ask('GET', job)).body.data.status === 'REGISTERED')
    expect((await hub.ask('GET', job)).body.data.results).toBe(null)
  })

  it('results that were reported before a restart are in the job after it', async () => {
    const store = createStorePath()
    const first = await openTestHub({ store })
    const job = await first.submit(await first.service(), { a: 1 })
    const headers = { 'x-manyhost-worker': 'one' }
    await patch(first, job, { status: 'WORKING', results: { b: 7 } }, headers)
    await first.close()
    const second = await openTestHub({ store })
    expect((await second.ask('GET', job)).body.data.results).toEqual({ b: 7 })
    expect(await patch(second, job, { status: 'COMPLETED' }, headers)).toEqual([
      200,
      'COMPLETED',
      { b: 7 },
    ])
  })

  it('a request to the virtual URL is answered by results and a status in two steps', async () => {
    const { hub, session, url } = await stage()
    await hub.ask('PATCH', new URL(url).pathname)
    const answer = session.client().post(CALC, { json: { a: 1 } })
    let id = ''
    await waitUntil(async () => {
      const { status, body } = await hub.ask('GET', `${new URL(url).pathname}/next`)
      if (status === 200) id = body.data.id
      return status === 200
    })
    expect(await patch(hub, `/jobs/${id}`, { results: { b: 5 } })).toEqual([
      200,
      'WORKING',
      { b: 5 },
    ])
    await patch(hub, `/jobs/${id}`, { status: 'COMPLETED' })
    expect(await (await answer).json()).toEqual({ b: 5 })
  })
})

describe('results of a worker that cannot be reported', () => {
  const circle: Record<string, unknown> = {}
  circle.self = circle
  const cases: [string, () => unknown, RegExp][] = [
    ['a BigInt', () => ({ x: 10n }), /cannot be written as JSON.*BigInt/s],
    ['a cycle', () => circle, /cannot be written as JSON.*circular/is],
    [
      'a toJSON that throws',
      () => ({
        toJSON() {
          throw new Error('no JSON of me')
        },
      }),
      /no JSON of me/,
    ],
    ['nothing', () => undefined, /must be a JSON object, got undefined/],
    ['a number', () => 7, /must be a JSON object, got 7/],
    ['a list', () => [1, 2], /must be a JSON object, got \[1,2\]/],
    ['a function', () => () => 1, /must be a JSON object/],
    [
      'more than the server takes',
      () => ({ x: 'x'.repeat(5_000) }),
      /have \d+ bytes.*at most 4096/,
    ],
    [
      'more characters than fit, each of several bytes',
      () => ({ x: 'ü'.repeat(2_500) }),
      /have \d+ bytes.*at most 4096/,
    ],
    ['JSON that is too deep', () => nested(100), /levels deep/],
    [
      'an error whose reason is too large',
      () => {
        throw new Error('y'.repeat(10_000))
      },
      /yyy/,
    ],
    [
      'null, thrown',
      () => {
        throw null
      },
      /null/,
    ],
  ]

  function nested(depth: number): object {
    return depth === 0 ? {} : { x: nested(depth - 1) }
  }

  it.each(cases)('%s: the caller gets the reason, and the worker goes on', async (_, bad, why) => {
    const { session, url } = await stage({ bodySize: 4_096 })
    let calls = 0
    run(url, () => (calls++ === 0 ? bad() : { ok: true }))
    const client = session.client()
    const response = await client.post(CALC, { json: {} })
    expect(response.status).toBe(500)
    expect(await response.text()).toMatch(why)
    expect(await (await client.post(CALC, { json: {} })).json()).toEqual({ ok: true })
    expect(calls).toBe(2)
  })

  it('a job by the API ends as ERROR with the reason', async () => {
    const { hub, url } = await stage()
    const { errors } = run(url, () => ({ x: 10n }))
    const jobs = new JobClient({ url: hub.url, interval: 5 })
    const { id } = await jobs.submit(url, {})
    expect((await rejectionOf(jobs.results(id, 170_000))).message).toMatch(/BigInt/)
    expect(errors[0]?.message).toMatch(/BigInt/)
  })

  it('a reason that is longer than the limit of the server is cut off and reported', async () => {
    const { session, url } = await stage({ bodySize: 64 })
    run(url, () => {
      throw new Error('z'.repeat(200))
    })
    const response = await session.client().post(CALC, { json: {} })
    expect(response.status).toBe(500)
    expect(await response.text()).toMatch(/"detail":"z{10,}"/)
  })

  it('an onError that throws ends neither the worker nor the process', async () => {
    const { session, url } = await stage()
    const worker = new Worker({
      url,
      handle: ({ parameters }) => (parameters.bad ? ({ x: 1n } as never) : { ok: true }),
      pollInterval: 10,
      onError: () => {
        throw new Error('of the listener')
      },
    }).start()
    onTestFinished(() => worker.stop(1_000))
    expect((await session.client().post(CALC, { json: { bad: 1 } })).status).toBe(500)
    expect((await session.client().post(CALC, { json: {} })).status).toBe(200)
  })

  it('a body above bodySize is refused with an answer, and its connection can be used again', async () => {
    const hub = await openTestHub({ bodySize: 1_000 })
    const job = await hub.submit(await hub.service(), { a: 1 })
    const json = { status: 'COMPLETED', results: { x: 'x'.repeat(3_000_000) } }
    const { status, body } = await hub.ask('PATCH', job, { json })
    expect([status, body.errors[0].title]).toEqual([413, 'Request Too Large'])
    expect((await hub.ask('GET', job)).body.data.status).toBe('REGISTERED')
  })
})

describe('a worker of the original’s server', () => {
  it('asks at the path of the original, claims by status, and reports', async () => {
    const original = await openTopChef()
    const jobs = [original.submit({ a: 1 }), original.submit({ a: 2 }), original.submit({ a: 3 })]
    const { worker } = run(original.url, (({ parameters }: { parameters: { a: number } }) => {
      if (parameters.a === 2) throw new Error('two is too many')
      return { b: parameters.a * 10 }
    }) as never)
    await waitUntil(() => jobs.every(({ status }) => /COMPLETED|ERROR/.test(status)))
    await worker.stop()
    expect(jobs.map(({ status, results }) => [status, results])).toEqual([
      ['COMPLETED', { b: 10 }],
      ['ERROR', null],
      ['COMPLETED', { b: 30 }],
    ])
    // Each job was claimed once, before the worker worked on it.
    const of = (id: string) => original.seen.filter((line) => line.startsWith(`PATCH /jobs/${id}`))
    expect(of(jobs[0]?.id ?? '')).toEqual([
      `PATCH /jobs/${jobs[0]?.id} {"status":"WORKING"}`,
      `PATCH /jobs/${jobs[0]?.id} {"status":"COMPLETED","results":{"b":10}}`,
    ])
    // After the first 404 the worker uses the other path.
    expect(
      original.seen.filter((line) => line.endsWith('/next') && !line.includes('/jobs/next')),
    ).toHaveLength(1)
  })

  it('works on several jobs at a time, on each of them once', async () => {
    const original = await openTopChef()
    const jobs = Array.from({ length: 30 }, (_, a) => original.submit({ a }))
    const done: number[] = []
    const worker = new Worker({
      url: original.url,
      concurrency: 4,
      pollInterval: 5,
      handle: ({ parameters }) => {
        done.push(Number(parameters.a))
        return {}
      },
    }).start()
    onTestFinished(() => worker.stop(1_000))
    await waitUntil(() => jobs.every(({ status }) => status === 'COMPLETED'))
    expect(done.toSorted((a, b) => a - b)).toEqual(jobs.map((_, a) => a))
  })
})

describe('JobClient', () => {
  it('takes its URL as an option, and services and jobs by id or by URL', async () => {
    const hub = await openTestHub()
    const jobs = new JobClient({ url: `${hub.url}/`, interval: 5 })
    const service = await jobs.newService({ name: 'any' })
    const one = await jobs.submit(service, { a: 1 })
    const two = await jobs.submit(service.split('/').at(-1) as string, { a: 2 })
    expect((await jobs.job(one.id)).parameters).toEqual({ a: 1 })
    expect((await jobs.job(`${hub.url}/jobs/${two.id}`)).parameters).toEqual({ a: 2 })
    expect((await jobs.cancel(`${hub.url}/jobs/${two.id}`)).status).toBe('ERROR')
  })

  it('refuses values that are no URL, and a URL of another server', async () => {
    for (const url of [undefined, '', 'hub:5000', {}, { url: 7 }, { url: 'ftp://hub' }]) {
      expect(() => new JobClient(url as never)).toThrow(/url must be an http or https URL/)
    }
    const jobs = new JobClient('http://127.0.0.1:1')
    const error = await rejectionOf(jobs.submit('http://other.test/services/x', {}))
    expect(error.message).toMatch(/neither an id nor a URL that begins with/)
  })
})

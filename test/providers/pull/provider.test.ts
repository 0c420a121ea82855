/** Workers as the instances of a session. Requests become jobs, and worker processes are ended by real signals. */
import { type ChildProcess, spawn } from 'node:child_process'
import { resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { Registry } from 'prom-client'
import { request } from 'undici'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import {
  JobClient,
  Worker,
  type WorkerOptions,
  type WorkersOptions,
} from '../../../providers/pull/index.ts'
import { PULL_METRICS } from '../../../providers/pull/metrics.ts'
import { Session } from '../../../src/index.ts'
import { useFalseClock } from '../../clock.ts'
import { countStates, rejectionOf, waitForReady, waitUntil } from '../../help.ts'
import { LONG_POLL_SECONDS, openTestHub, type TestHub } from './help.ts'

const CALC = 'http://calc'

// Processes that start, and hundreds of requests, on a machine that may be busy.
vi.setConfig({ testTimeout: 180_000 })

interface Stage {
  readonly hub: TestHub
  readonly session: Session
  readonly service: string
  worker(options?: Partial<WorkerOptions>): Worker
}

async function stage(options: WorkersOptions = {}, startup: object = {}): Promise<Stage> {
  const hub = await openTestHub(options)
  const session = new Session({ provider: hub.provider, tickInterval: 20 })
  onTestFinished(() => session.close({ force: true }))
  session.startup({ url: CALC, ...startup })
  const service = `/services/${await hub.provider.serviceId(CALC)}`
  const worker: Stage['worker'] = (more = {}) => {
    const made: Worker = new Worker({
      url: hub.url + service,
      handle: ({ parameters }) => ({ echo: parameters, by: made.name }),
      pollInterval: 10,
      onError: () => undefined,
      ...more,
    }).start()
    onTestFinished(() => made.stop(1_000))
    return made
  }
  return { hub, session, service, worker }
}

interface Child {
  readonly process: ChildProcess
  readonly lines: string[]
  says(pattern: RegExp): Promise<unknown>
}

function child(url: string, ...args: string[]): Child {
  const script = resolve('test/fakes/pull-worker.mjs')
  const one = spawn(process.execPath, [script, url, ...args], { stdio: ['pipe', 'pipe', 'ignore'] })
  onTestFinished(() => void one.kill('SIGKILL'))
  const lines: string[] = []
  createInterface({ input: one.stdout as NodeJS.ReadableStream }).on('line', (line) =>
    lines.push(line),
  )
  const says = (pattern: RegExp) =>
    waitUntil(() => lines.some((line) => pattern.test(line)), `${pattern}`)
  return { process: one, lines, says }
}

describe('requests to the virtual URL', () => {
  it('a request fails after its headersTimeout, and is not given to another worker', async () => {
    const { session, worker } = await stage()
    let taken = 0
    worker({
      handle: ({ signal }) => {
        taken++
        return new Promise((_, reject) => {
          signal?.addEventListener('abort', () => reject(signal.reason))
        })
      },
    })
    const dispatcher = session.dispatcher()
    const options = { dispatcher, method: 'POST', body: '{}', headersTimeout: 50 } as const
    const error = await rejectionOf(request(CALC, options))
    expect(error).toMatchObject({
      code: 'MANYHOST_TIMEOUT',
      cause: { code: 'UND_ERR_HEADERS_TIMEOUT' },
    })
    await waitUntil(() => session.cluster(CALC).inFlight === 0)
    // On a busy machine the worker gets the job after the request has failed.
    await waitUntil(() => taken > 0, 'the worker has the job')
    expect(taken).toBe(1)
  })

  it('become jobs, whose results become the responses', async () => {
    const { session, worker, hub } = await stage()
    worker({ name: 'w' })
    await using client = session.client()
    const res = await client.post(`${CALC}/add/1?x=2`, { json: { a: 1 } })
    expect(res.status).toBe(200)
    expect(res.headers.get('content-type')).toBe('application/json')
    expect(await res.json()).toEqual({ echo: { a: 1 }, by: 'w' })
    // Without a body, the names and values of the query are the parameters.
    const got = await client.get(`${CALC}/add?a=1&b=two`)
    expect(await got.json()).toEqual({ echo: { a: '1', b: 'two' }, by: 'w' })
    // Such jobs end with their requests, and are not in the store.
    expect((await hub.ask('GET', '/jobs')).body.data).toEqual([])
  })

  it('without a worker, a body that is not JSON gets 400, and one that the schema refuses 422', async () => {
    const schema = { type: 'object', properties: { a: { type: 'integer' } }, required: ['a'] }
    const { session, hub, service } = await stage({
      services: { [CALC]: { jobRegistrationSchema: schema } },
      bodySize: 1_000,
    })
    await hub.ask('PATCH', service)
    await using client = session.client()
    expect((await client.post(CALC, { body: '{"a":' })).status).toBe(400)
    expect((await client.post(CALC, { json: [1] })).status).toBe(400)
    const refused = await client.post(CALC, { json: { a: 'x' } })
    expect([refused.status, ((await refused.json()) as { errors: object[] }).errors[0]]).toEqual([
      422,
      expect.objectContaining({ title: 'JSONSchema Validation Error', status_code: 422 }),
    ])
    expect((await client.post(CALC, { json: { a: 1, b: 'x'.repeat(2_000) } })).status).toBe(413)
  })

  it('5d (10): the caller gets the reason of a worker that fails', async () => {
    const { session, worker } = await stage()
    worker({
      handle: () => {
        throw new Error('the laser is off')
      },
    })
    await using client = session.client()
    const res = await client.post(CALC, { json: {} })
    const body = (await res.json()) as { errors: { detail: string }[] }
    expect([res.status, body.errors[0]?.detail]).toEqual([500, 'the laser is off'])
  })

  it('200 requests are answered by three workers, one of which polls', async () => {
    const { session, worker, hub } = await stage()
    worker({ name: 'a' })
    worker({ name: 'b' })
    worker({ name: 'c', wait: 0 })
    // Otherwise the first worker could have done all before the others are ready.
    await waitForReady(session, CALC, 3)
    await hub.shows('waiting', 2)
    await using client = session.client()
    const send = async (n: number) =>
      (await (await client.post(CALC, { json: { n } })).json()) as {
        echo: { n: number }
        by: string
      }
    const answers = await Promise.all(Array.from({ length: 200 }, (_, n) => send(n)))
    expect(answers.map(({ echo }) => echo.n)).toEqual(Array.from({ length: 200 }, (_, n) => n))
    expect(new Set(answers.map(({ by }) => by)).size).toBeGreaterThan(1)
  })

  it('a caller that gives up leaves nothing behind', async () => {
    const clock = useFalseClock()
    const { session, hub, service } = await stage()
    await hub.ask('PATCH', service)
    await clock.passUntil(1, () => countStates(session, CALC).ready === 1)
    await using client = session.client()
    const ended = rejectionOf(client.post(CALC, { json: {}, timeout: 50 }))
    await hub.shows('queue_size', 1)
    await clock.pass(50)
    const error = await ended
    expect(error.code).toBe('MANYHOST_TIMEOUT')
    expect((await hub.claim(service)).status).toBe(204)
    expect((await hub.ask('GET', `${service}/queue`)).status).toBe(204)
    await waitUntil(() => session.cluster(CALC).inFlight === 0)
  })

  it('a late result of a request that has ended is 409', async () => {
    const clock = useFalseClock()
    const { session, hub, service } = await stage()
    await hub.ask('PATCH', service)
    await clock.passUntil(1, () => countStates(session, CALC).ready === 1)
    await using client = session.client()
    const ended = rejectionOf(client.post(CALC, { json: {}, timeout: 500 }))
    const claim = await hub.claim(service, 'w', LONG_POLL_SECONDS)
    await clock.pass(500)
    expect((await ended).code).toBe('MANYHOST_TIMEOUT')
    const path = `/jobs/${claim.body.data.id}`
    const json = { status: 'COMPLETED', results: {} }
    expect((await hub.ask('PATCH', path, { json })).status).toBe(409)
    expect((await hub.ask('GET', path)).status).toBe(410)
  })
})

describe('workers come and go', () => {
  it('a service has as many instances as workers', async () => {
    const { session, worker } = await stage({ slack: 1, services: { [CALC]: { timeout: 300 } } })
    expect(session.cluster(CALC).instances).toHaveLength(0)
    const [one] = [worker({ name: 'one' }), worker({ name: 'two' })]
    await waitForReady(session, CALC, 2)
    expect(
      session
        .cluster(CALC)
        .instances.map(({ address }) => address)
        .toSorted(),
    ).toEqual(['worker one', 'worker two'])
    await one?.stop()
    await waitForReady(session, CALC, 1)
    worker({ name: 'three' })
    await waitForReady(session, CALC, 2)
  })

  it.each(['SIGKILL', 'SIGSTOP'] as const)(
    'one gets %s with a request: another has it',
    async (signal) => {
      const { session, hub, service } = await stage({
        slack: 1,
        services: { [CALC]: { timeout: 1_500 } },
      })
      const doomed = child(hub.url + service, 'doomed', 'hold')
      await doomed.says(/ready/)
      await waitForReady(session, CALC, 1)
      await using client = session.client()
      const answer = client.post(CALC, { json: { n: 1 } })
      await doomed.says(/has/)
      doomed.process.kill(signal)
      const other = child(hub.url + service, 'other')
      await other.says(/ready/)
      const res = await answer
      expect(await res.json()).toEqual({ by: 'other' })
      if (signal === 'SIGKILL') return
      // When it goes on, the worker reports a result for which nobody waits any more.
      doomed.process.kill('SIGCONT')
      doomed.process.stdin?.write('\n')
      await doomed.says(/told 409/)
    },
  )

  it('a job by the API, of a worker that is killed, is done by another', async () => {
    const { hub, service } = await stage({ slack: 1, services: { [CALC]: { timeout: 1_000 } } })
    const jobs = new JobClient(hub.url, { interval: 10 })
    const doomed = child(hub.url + service, 'doomed', 'hold')
    await doomed.says(/ready/)
    const { id } = await jobs.submit(service.slice('/services/'.length), { n: 1 })
    await doomed.says(/has/)
    doomed.process.kill('SIGKILL')
    child(hub.url + service, 'other')
    expect(await jobs.results(id, 170_000)).toEqual({ by: 'other' })
  })

  it('a request that no worker has claimed goes to another instance when its own ends, with resend: never', async () => {
    const clock = useFalseClock()
    const { session, hub, service, worker } = await stage(
      { slack: 1, services: { [CALC]: { timeout: 200 } } },
      { resend: 'never' },
    )
    await hub.ask('PATCH', service, { headers: { 'x-manyhost-worker': 'brief' } })
    await clock.passUntil(1, () => countStates(session, CALC).ready === 1)
    await using client = session.client()
    let by: string | undefined
    const answered = client.post(CALC, { json: {} }).then(async (answer) => {
      by = ((await answer.json()) as { by: string }).by
    })
    await hub.shows('queue_size', 1)
    await clock.passUntil(10, () => !countStates(session, CALC).ready)
    await hub.shows('queue_size', 0)
    worker({ name: 'later' })
    await clock.passUntil(10, () => by !== undefined)
    await answered
    expect(by).toBe('later')
  })

  it('a session that closes lets workers finish their jobs', async () => {
    const { session, worker } = await stage()
    let go = (): void => undefined
    const held = new Promise<void>((resolve) => {
      go = resolve
    })
    const one = worker({ handle: () => held.then(() => ({ done: true })) })
    await using client = session.client()
    const answer = client.post(CALC, { json: {} })
    await waitUntil(() => one.busy === 1)
    const closed = session.close()
    go()
    expect(await (await answer).json()).toEqual({ done: true })
    await closed
  })
})

describe('Worker and JobClient (T12, T13, T14)', () => {
  it('T12: a subclass with a method `handle`, as in the original', async () => {
    const { hub } = await stage()
    class Doubler extends Worker {
      override handle({ parameters }: { parameters: Readonly<Record<string, unknown>> }) {
        return { b: Number(parameters.a) * 2 }
      }
    }
    const jobs = new JobClient(hub.url, { interval: 5 })
    const url = await jobs.newService({ name: 'doubler' })
    const worker = new Doubler({ url, wait: 0, pollInterval: 5 }).start()
    onTestFinished(() => worker.stop())
    const { id } = await jobs.submit(url.split('/').at(-1) as string, { a: 21 })
    expect(await jobs.results(id, 170_000)).toEqual({ b: 42 })
    const job = await jobs.job(id)
    expect([job.isComplete, job.status]).toEqual([true, 'COMPLETED'])
  })

  it('T13: results that the schema refuses end the job as ERROR, with the reason', async () => {
    const { hub } = await stage()
    const jobs = new JobClient(hub.url, { interval: 5 })
    const jobResultSchema = { type: 'object', required: ['b'] }
    const url = await jobs.newService({ name: 'wrong', jobResultSchema })
    const errors: Error[] = []
    const worker = new Worker({
      url,
      handle: () => ({}),
      onError: (error) => errors.push(error),
    }).start()
    onTestFinished(() => worker.stop())
    const { id } = await jobs.submit(url.split('/').at(-1) as string, {})
    const error = await rejectionOf(jobs.results(id, 170_000))
    expect(error.message).toMatch(/'b' is a required property/)
    expect(errors[0]?.message).toMatch(/'b' is a required property/)
  })

  it('a JobClient takes a job as an object, an id or a URL object, and refuses other values', async () => {
    const { hub } = await stage()
    const jobs = new JobClient({ url: new URL(hub.url), interval: 5 })
    const url = new URL(await jobs.newService({ name: 'named' }))
    const job = await jobs.submit(url, { a: 1 })
    for (const named of [
      job,
      job.id,
      `${hub.url}/jobs/${job.id}`,
      new URL(`${hub.url}/jobs/${job.id}`),
    ]) {
      expect((await jobs.job(named)).id).toBe(job.id)
    }
    await jobs.cancel(job)
    expect((await rejectionOf(jobs.results(job))).message).toMatch(/cancelled/)
    for (const wrong of [undefined, null, {}, 5, '', { id: 5 }]) {
      const error = await rejectionOf(jobs.job(wrong as never))
      expect(error).toMatchObject({ code: 'MANYHOST_INVALID_OPTION' })
    }
  })

  it('a worker whose hub is away goes on, and waits longer each time', async () => {
    const errors: Error[] = []
    const worker = new Worker({
      url: 'http://127.0.0.1:1/services/x',
      handle: () => ({}),
      onError: (error) => errors.push(error),
    }).start()
    await waitUntil(() => errors.length >= 4)
    expect(errors[0]?.message).toMatch(/ECONNREFUSED/)
    await worker.stop()
  })

  it('the signal of a job is aborted when the job is cancelled', async () => {
    const clock = useFalseClock()
    const { hub } = await stage()
    const jobs = new JobClient(hub.url)
    const url = await jobs.newService({ name: 'long' })
    let aborted = false
    const worker = new Worker({
      url,
      onError: () => undefined,
      handle: ({ signal }) =>
        new Promise((resolve) => {
          signal.addEventListener('abort', () => {
            aborted = true
            resolve({})
          })
        }),
    }).start()
    onTestFinished(() => worker.stop())
    const { id } = await jobs.submit(url.split('/').at(-1) as string, {})
    await waitUntil(() => worker.busy === 1)
    await jobs.cancel(id)
    expect(aborted).toBe(false)
    // After a third of the lease the worker renews it, and learns that the job was cancelled.
    await clock.pass(20_000)
    await waitUntil(() => aborted)
  })
})

it('a virtual URL is served by the service that was registered under its name', async () => {
  const hub = await openTestHub()
  const path = await hub.service({ name: 'lab' })
  expect(`/services/${await hub.provider.serviceId('http://lab')}`).toBe(path)
})

it('the metrics count jobs, claims and workers', async () => {
  const registry = new Registry()
  const { session, worker } = await stage({ registry })
  worker()
  await using client = session.client()
  await client.post(CALC, { json: {} })
  const text = await registry.metrics()
  for (const name of Object.keys(PULL_METRICS)) expect(text).toContain(`# TYPE ${name} `)
  expect(text).toMatch(/manyhost_pull_ended_total\{status="COMPLETED",service="calc:\w{8}"\} 1/)
  expect(text).toMatch(/manyhost_pull_workers\{service="calc:\w{8}"\} 1/)
})

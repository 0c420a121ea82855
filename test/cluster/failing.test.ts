/** Instances that end, hang, fall ill or fail requests: what becomes of them and of what they served. */
import { readdirSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { inProcess } from '../../providers/testing/index.ts'
import { type ServiceOptions, Session } from '../../src/index.ts'
import {
  countStates,
  createGate,
  createHoldingProvider,
  findInstancePids,
  NEVER,
  nextEvent,
  recordEvents,
  rejectionOf,
  service,
  waitForReady,
  waitUntil,
} from '../help.ts'

let session: Session
beforeEach(() => {
  session = new Session({ tickInterval: NEVER })
})
afterEach(() => session.close({ force: true }))

function startup(options: Partial<ServiceOptions> = {}) {
  return session.startup({ url: 'http://calc', command: service, ...options })
}

async function get(path: string): Promise<string> {
  return (await session.client().get(`http://calc${path}`)).text()
}

/** Sends a signal to the server of the only instance. */
async function signal(name: NodeJS.Signals): Promise<number> {
  const pid = Number(await get('/pid'))
  process.kill(pid, name)
  return pid
}

describe('an end', () => {
  test('kill -9 of the only instance: its replacement is started at once, and its request served', async () => {
    const work = createGate()
    startup({ env: { JOURNAL_FOLDER: work.folder } })
    const pid = await get('/pid')
    const answer = get(`/job/0/one?${work.until}`)
    await waitUntil(() => readdirSync(work.folder).length === 1, 'it is executed')
    const failed = nextEvent(session, 'instance', ({ state }) => state === 'failed')
    const started = nextEvent(session, 'instance', ({ state }) => state === 'starting')
    process.kill(Number(pid), 'SIGKILL')
    expect((await failed).reason).toMatch(/killed by SIGKILL/)
    await started
    work.open()
    expect(await answer).toBe('one done')
    expect(session.cluster('http://calc').stats()).toMatchObject({ resends: 1, executedTwice: 1 })
    expect(await session.metrics.metrics()).toContain(
      'manyhost_executed_twice_total{service="http://calc"} 1',
    )
  })

  test("onStop 'restart': again and again", async () => {
    startup({ onStop: 'restart' })
    const pids = new Set<number>()
    for (let round = 0; round < 3; round++) {
      const failed = nextEvent(session, 'instance', ({ state }) => state === 'failed')
      pids.add(await signal('SIGKILL'))
      await failed
    }
    expect(pids.size).toBe(3)
  })

  test("onStop 'raise': who waits, comes or is in flight is told, the rest stops; a size begins anew", async () => {
    const { provider, holds, held, kill } = createHoldingProvider()
    const { url } = startup({ command: undefined as never, provider, initSize: 2, onStop: 'raise' })
    await waitForReady(session, url, 2)
    const client = session.client()
    const all = [1, 2, 3].map((n) => client.get(`${url}/${n}`))
    const outcomes = all.map((answer) => answer.catch((error) => error.code))
    await holds(2)
    const failed = nextEvent(session, 'cluster', ({ change }) => change === 'failed')
    kill()
    expect((await failed).reason).toContain('killed by the test')
    // What another instance serves, it may end.
    expect(held).toHaveLength(1)
    held[0]?.answer()
    const [one, two, three] = await Promise.all(outcomes)
    expect([one, two.status ?? one.status, three]).toContain('MANYHOST_INSTANCE_ENDED')
    expect([one, two].filter((x) => typeof x === 'object').map(({ status }) => status)).toEqual([
      200,
    ])
    expect((await rejectionOf(client.get(`${url}/now`))).code).toBe('MANYHOST_INSTANCE_ENDED')
    await waitUntil(() => session.cluster(url).instances.length === 0)
    expect(session.snapshot().clusters[0]?.failure).toContain('killed by the test')
    session.setSize(url, 1)
    expect((await client.get(`${url}/now`)).status).toBe(200)
  })

  test("onStop 'ignore': fewer and fewer, and after the last one an error; a size begins anew", async () => {
    const { provider, kill } = createHoldingProvider()
    const { url } = startup({
      command: undefined as never,
      provider,
      initSize: 3,
      onStop: 'ignore',
    })
    const client = session.client()
    for (let left = 3; left > 0; left--) {
      await waitForReady(session, url, left)
      expect((await client.get(`${url}/now`)).status).toBe(200)
      kill()
      await waitUntil(() => session.cluster(url).instances.length === left - 1)
    }
    expect((await rejectionOf(client.get(`${url}/now`))).code).toBe('MANYHOST_INSTANCE_ENDED')
    session.setSize(url, 2)
    await waitForReady(session, url, 2)
  })

  test('an instance that ends while it drains is not taken for a failure', async () => {
    const { provider, holds, held, kill } = createHoldingProvider()
    const { url } = startup({ command: undefined as never, provider, onStop: 'raise' })
    const answer = session.client().get(`${url}/one`)
    await holds(1)
    session.setSize(url, 0)
    await waitUntil(() => countStates(session, url).draining === 1)
    kill()
    await waitUntil(() => session.cluster(url).instances.length === 0)
    session.setSize(url, 1)
    await holds(1)
    held[0]?.answer()
    expect((await answer).status).toBe(200)
  })
})

describe('a health check', () => {
  test('that fails makes it unready, then replaces it, and takes along no request', async () => {
    const sick = new Set<string>()
    const ran: string[] = []
    const provider = inProcess((req, res) => {
      if (req.url === '/health') return void res.writeHead(sick.has(req.instance) ? 500 : 200).end()
      // The first one never answers.
      if (ran.push(req.instance) > 1) res.end(req.instance)
    })
    // A check of one that is well may come too late for a slow machine now and then, but not three times in a row.
    const health = { path: '/health', interval: 10, threshold: 3 }
    const events = recordEvents(session, 'instance')
    startup({ command: undefined as never, provider, health, concurrency: 2 })
    const slow = get('/slow')
    await waitUntil(() => ran.length === 1)
    const [first] = ran as [string]
    const resent = nextEvent(session, 'resend')
    sick.add(first)
    expect(await resent).toMatchObject({ reason: 'unhealthy', instance: first })
    expect(await slow).not.toBe(first)
    expect(ran).toEqual([first, await slow])
    await waitUntil(() =>
      events.some(({ instance, state }) => instance === first && state === 'failed'),
    )
    const told = events.filter(({ instance }) => instance === first)
    expect(told.map(({ state }) => state)).toEqual([
      'pending',
      'starting',
      'ready',
      'unready',
      'failed',
    ])
    expect(told.at(-2)?.reason).toMatch(/health check failed 3 times in a row: .*500/)
  })

  test('finds a silent death, and an instance that thaws in time is ready again', async () => {
    const { provider, holds, held } = createHoldingProvider()
    // From unready to replaced it is as long as to unready: time enough to thaw, whatever else the machine does.
    const health = { path: '/now', interval: 10, threshold: 30 }
    startup({ command: undefined as never, provider, health, concurrency: 2 })
    await waitForReady(session, 'http://calc', 1)
    const [instance] = provider.instances
    const unready = nextEvent(session, 'instance', ({ state }) => state === 'unready')
    instance?.freeze()
    const waiting = get('/waiting')
    await unready
    const again = nextEvent(session, 'instance')
    instance?.thaw()
    expect(await again).toMatchObject({ state: 'ready', from: 'unready', instance: instance?.id })
    await waitUntil(() => held.length > 0)
    for (const one of [...held]) one.answer()
    expect(await waiting).toBe('waiting')
    await holds(0)
  })

  test('of a process that stays frozen (SIGSTOP) replaces it, and nothing of it is left', async () => {
    // Eight checks in a row take four seconds to fail.
    startup({ health: { path: '/health', interval: 250, threshold: 4 } })
    const failed = nextEvent(session, 'instance', ({ state }) => state === 'failed')
    const pid = await signal('SIGSTOP')
    const waiting = get('/pid')
    const { instance } = await failed
    expect(await waiting).not.toBe(String(pid))
    await waitUntil(() => findInstancePids(instance).length === 0)
  })

  test('without one, a silent death is found by attemptTimeout', async () => {
    startup({ initSize: 2, attemptTimeout: 150, maxAttempts: 1_000 })
    await waitForReady(session, 'http://calc', 2)
    const pid = await signal('SIGSTOP')
    const pids = await Promise.all(Array.from({ length: 8 }, () => get('/pid')))
    expect(pids).not.toContain(String(pid))
  })
})

describe('an ejection', () => {
  /** A service in this process that fails while it is told to: `broken` cuts the connection. */
  function flaky(options: Partial<ServiceOptions> = {}) {
    const state = { broken: new Set<string>(), sick: false }
    const provider = inProcess((req, res) => {
      if (req.url === '/health') return void res.writeHead(state.sick ? 500 : 200).end()
      if (state.broken.has(req.instance)) req.socket.destroy()
      else res.end(req.instance)
    })
    const cluster = startup({ command: undefined as never, provider, ...options })
    return { state, cluster, provider }
  }

  test('follows failed attempts in a row; a probe makes it ready again', async () => {
    const { state, cluster } = flaky({ initSize: 2, ejectAfter: 3 })
    await waitForReady(session, cluster.url, 2)
    const [bad] = cluster.instances.map(({ id }) => id)
    state.broken.add(bad as string)
    const rejoined = nextEvent(session, 'instance', ({ from }) => from === 'unready')
    session.on('instance', ({ instance, state: to }) => {
      if (to === 'unready') state.broken.delete(instance)
    })
    const answers = await Promise.all(Array.from({ length: 20 }, () => get('/')))
    expect(answers).toHaveLength(20)
    expect(await rejoined).toMatchObject({ instance: bad, state: 'ready' })
    expect(cluster.stats()).toMatchObject({ resends: 3, ejections: 1, completions: 20 })
    await waitUntil(async () => (await get('/')) === bad)
  })

  test('that probes do not end is final: it is replaced', async () => {
    const { state, cluster } = flaky({ initSize: 1, ejectAfter: 1, ready: '/health' })
    await waitForReady(session, cluster.url, 1)
    const [bad] = cluster.instances.map(({ id }) => id) as [string]
    state.sick = true
    state.broken.add(bad)
    const failed = nextEvent(session, 'instance', ({ state: to }) => to === 'failed')
    const answer = get('/')
    expect((await failed).reason).toMatch(/6 probes failed: .*500/)
    state.sick = false
    expect(await answer).not.toBe(bad)
  })

  test('again and again with nothing served between is final, too', async () => {
    const { state, cluster } = flaky({ initSize: 1, ejectAfter: 1, maxAttempts: 1_000 })
    await waitForReady(session, cluster.url, 1)
    const [bad] = cluster.instances.map(({ id }) => id) as [string]
    state.broken.add(bad)
    const failed = nextEvent(session, 'instance', ({ state: to }) => to === 'failed')
    const answer = get('/')
    expect((await failed).reason).toMatch(/7 times in a row/)
    expect(await answer).not.toBe(bad)
  })

  test('of long ago does not keep an idle instance from being ready after a failed check', async () => {
    const health = { path: '/health', interval: 10, threshold: 10 }
    const { state, cluster } = flaky({ ejectAfter: 1, health })
    await waitForReady(session, cluster.url, 1)
    const [id] = cluster.instances.map((one) => one.id) as [string]
    state.broken.add(id)
    const rejoined = nextEvent(session, 'instance', ({ from }) => from === 'unready')
    const answer = get('/')
    await rejoined
    state.broken.clear()
    await answer
    const unready = nextEvent(session, 'instance', ({ state: to }) => to === 'unready')
    state.sick = true
    await unready
    state.sick = false
    expect(await nextEvent(session, 'instance')).toMatchObject({ state: 'ready', from: 'unready' })
  })
})

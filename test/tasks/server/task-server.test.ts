/** A server at its work: real runners, real shells, real stores. `dist` has the runner's program: npm test builds it. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Registry } from 'prom-client'
import { describe, expect, it, onTestFinished } from 'vitest'
import { inProcess } from '../../../providers/testing/index.ts'
import { SessionCore } from '../../../src/session/session.ts'
import {
  type NewTask,
  openStore,
  runCluster,
  serveForever,
  serveFrom,
  submitFrom,
  type TaskResult,
} from '../../../src/tasks.ts'
import { createFolder } from '../../cli/help.ts'
import { rejectionOf, waitUntil } from '../../help.ts'
import { collect } from '../collect.ts'

const byArgs = (results: readonly TaskResult[]) =>
  Object.fromEntries(results.map(({ args, exitStatus }) => [args, exitStatus]))

describe('a cluster', () => {
  it('runs each line of a source, and says what became of it', async () => {
    const { results, counts, text } = await collect(['echo a', 'exit 3', 'echo b >&2'])
    expect(byArgs(results)).toEqual({ 'echo a': 0, 'exit 3': 3, 'echo b >&2': 0 })
    expect(text).toContain('stdout a\n')
    expect(text).toContain('stderr b\n')
    expect(counts).toEqual({
      submitted: 3,
      succeeded: 2,
      failed: 1,
      cancelled: 0,
      retried: 0,
      refused: 0,
    })
  })

  it('tries again what fails, as rows that are linked, and keeps all fields', async () => {
    const store = await openStore(join(createFolder(), 'tasks.db'))
    onTestFinished(() => store.close())
    const task: NewTask = { args: 'test $TASK_ATTEMPT = 3', timeout: 9_000, tag: { run: 7 } }
    const { results, counts } = await collect([task], { store, maxRetries: 4 })
    expect(
      results.map(({ attempt, exitStatus, willRetry }) => [attempt, exitStatus, willRetry]),
    ).toEqual([
      [1, 1, true],
      [2, 1, true],
      [3, 0, false],
    ])
    expect(counts).toMatchObject({ submitted: 1, succeeded: 1, failed: 0, retried: 2 })
    const last = await store.get(results[2]?.id as string)
    expect(last).toMatchObject({ previousId: results[1]?.id, timeout: 9_000, tag: { run: 7 } })
    expect(last.clientId).toMatch(/^tasks-/)
  })

  it('works groups off in their order', async () => {
    const lines = ['echo 2 # MANYHOST: group:2', 'echo 1 # MANYHOST: group:1', 'sleep 0.2; echo 0']
    const { text } = await collect(lines)
    expect(text.replaceAll('stdout ', '')).toBe('0\n1\n2\n')
  })

  it('stops at a group that failed for good, and says which', async () => {
    const store = await openStore(join(createFolder(), 'tasks.db'))
    onTestFinished(() => store.close())
    const error = await rejectionOf(collect(['false', 'echo 1 # MANYHOST: group:1'], { store }))
    expect(error).toMatchObject({ code: 'MANYHOST_GROUP_FAILED' })
    expect(error.message).toMatch(/1 tasks of group 0 failed for good/)
    expect(await store.counts()).toMatchObject({ failed: 1, new: 1 })
  })

  it('keeps outputs by task, in files beside the store', async () => {
    const at = createFolder()
    const { results } = await collect(['echo kept', 'true', 'echo wrong >&2; false'], {
      store: join(at, 'tasks.db'),
      capture: true,
    })
    const of = (args: string) => results.find((one) => one.args === args)
    expect(readFileSync(of('echo kept')?.outpath as string, 'utf8')).toBe('kept\n')
    expect(of('echo kept')?.outpath).toContain(join(at, 'outputs'))
    expect(of('true')).toMatchObject({ outpath: null, errpath: null, captured: true })
    expect(readFileSync(of('echo wrong >&2; false')?.errpath as string, 'utf8')).toBe('wrong\n')
  })

  it('ends what takes too long, whatever it does about signals, and goes on', async () => {
    const stubborn = "trap '' INT TERM; sleep 30; sleep 30"
    const { results } = await collect([stubborn, 'echo next'], {
      // Long enough for the shell to have set its trap.
      taskTimeout: 4_000,
      signalWait: 100,
    })
    const late = results.find(({ args }) => args === stubborn)
    expect(late).toMatchObject({ exitStatus: 137, message: 'timeout after 4000 ms' })
    expect(results).toHaveLength(2)
  })

  it('adds the lines of what failed for good to a file', async () => {
    const path = join(createFolder(), 'failed.txt')
    await collect(['exit 1', 'true', 'exit 2'], { redirectFailures: path, maxRetries: 1 })
    expect(readFileSync(path, 'utf8').split('\n').toSorted()).toEqual(['', 'exit 1', 'exit 2'])
  })

  it('goes on after lines that are no tasks, with onBad', async () => {
    const bad: string[] = []
    const { counts } = await collect(['true', 'a\0b', 'true # MANYHOST: cores:x', 'true'], {
      onBad: ({ message }) => bad.push(message),
    })
    expect(counts).toMatchObject({ submitted: 2, succeeded: 2 })
    expect(bad).toHaveLength(2)
    expect(bad[0]).toMatch(/^line 2: .*NUL/)
  })

  it('works off what a source gave before it threw, and throws that', async () => {
    const store = await openStore(join(createFolder(), 'tasks.db'))
    onTestFinished(() => store.close())
    function* source() {
      yield 'echo one'
      yield 'echo two'
      throw new Error('the disk is gone')
    }
    await expect(collect(source(), { store })).rejects.toThrow('the disk is gone')
    expect(await store.counts()).toMatchObject({ succeeded: 2, total: 2 })
  })

  it('reads a source no faster than it is worked off', async () => {
    let read = 0
    function* source() {
      for (; read < 1_000_000; read++) yield 'true'
    }
    const run = runCluster(source(), { inMemory: true, numTasks: 2, backlog: 10 })
    let maxAhead = 0
    let done = 0
    for await (const _ of run) {
      maxAhead = Math.max(maxAhead, read - done++)
      if (done === 1_500) run.drain()
    }
    expect(done).toBeGreaterThanOrEqual(1_500)
    // 10 are read ahead, 10 wait in the store; the others are with the runner, on their way back, or not looked at yet.
    expect(maxAhead).toBeLessThan(4_000)
    expect(read).toBeLessThan(10_000)
  })

  it('in memory forgets what is over, and keeps what is to come', async () => {
    const session = new SessionCore({
      provider: inProcess((_, answer) => void answer.end(), { style: 'node' }),
    })
    onTestFinished(() => session.close())
    session.startup({ url: 'http://calc', concurrency: 20 })
    const lines = Array.from({ length: 5_200 }, (_, n) => `GET http://calc/${n}`)
    const run = serveForever({ inMemory: true, session, kind: 'request', listen: { anyone: true } })
    await run.ready
    const { count } = await submitFrom(lines, { server: run.url, kind: 'request' })
    expect(count).toBe(5_200)
    await waitUntil(() => run.counts.succeeded === 5_200)
    await waitUntil(() => (run.progress?.remaining === 0 && run.progress.total < 5_000) || false)
    run.drain()
    expect(await run).toMatchObject({ succeeded: 5_200, failed: 0 })
  })

  it('runs tasks by cores: a task that does not fit waits, one that never fits fails with a message', async () => {
    const { results } = await collect(
      ['true # MANYHOST: cores:2', 'true', 'true # MANYHOST: cores:3'],
      { cores: 2 },
    )
    expect(byArgs(results)).toEqual({ true: expect.any(Number) })
    expect(results.map(({ exitStatus }) => exitStatus).toSorted()).toEqual([-3, 0, 0])
    expect(results.find(({ exitStatus }) => exitStatus === -3)?.message).toMatch(
      /3 cores, the runner has 2/,
    )
  })

  it('ends with autoscaling when a finite source has ended', async () => {
    const { counts } = await collect(['true', 'true', 'true'], {
      autoscaling: 'dynamic',
      maxSize: 2,
      period: 100,
    })
    expect(counts.succeeded).toBe(3)
  })

  it('has numbers for Prometheus, until it ends', async () => {
    const registry = new Registry()
    const run = runCluster(['true', 'false'], { inMemory: true, registry })
    let text = ''
    for await (const _ of run) text = await registry.metrics()
    expect(text).toMatch(/manyhost_task_outcomes_total\{outcome="succeeded"\} 1/)
    expect(text).toMatch(/manyhost_tasks_held \d/)
    expect(await registry.metrics()).toBe('\n')
  })

  it('refuses options that are none', () => {
    expect(() => runCluster([], { placs: 3 } as object)).toThrow(/unknown option 'placs'/)
    expect(() => runCluster([], { template: '{= 1 + =}' })).toThrow(/template/)
    expect(() => runCluster([], { evictAfter: 5 })).toThrow(
      /evictAfter must be milliseconds from 1000 up/,
    )
  })
})

describe('requests as tasks', () => {
  function calc(handler: (path: string) => number) {
    const seen: Record<string, string | undefined>[] = []
    const provider = inProcess(
      (request, response) => {
        seen.push({
          key: String(request.headers['idempotency-key']),
          path: request.url,
        })
        response.statusCode = handler(request.url ?? '')
        response.end(`answer to ${request.url}`)
      },
      { style: 'node' },
    )
    const session = new SessionCore({ provider })
    onTestFinished(() => session.close())
    session.startup({ url: 'http://calc', concurrency: 4, initSize: 2 })
    return { session, seen }
  }

  it('go to their virtual URL, once each, and their status is their outcome', async () => {
    const { session, seen } = calc((path) => (path === '/7' ? 503 : 200))
    const lines = Array.from({ length: 50 }, (_, n) => `GET http://calc/${n}`)
    const { counts, results } = await collect(lines, { session, kind: 'request' })
    expect(counts).toMatchObject({ succeeded: 49, failed: 1 })
    expect(results.find(({ args }) => args.endsWith('/7'))?.exitStatus).toBe(503)
    expect(seen).toHaveLength(50)
    expect(new Set(seen.map(({ key }) => key)).size).toBe(50)
    // No shell task came: no runner was started.
    expect(session.clusters).toHaveLength(1)
  })

  it('never go to the network', async () => {
    const { session } = calc(() => 200)
    const { results } = await collect(['GET http://127.0.0.1:1/x'], { session, kind: 'request' })
    expect(results[0]).toMatchObject({ exitStatus: 404 })
    expect(results[0]?.message).toMatch(/no service is at/)
  })

  it('never go to the network by a redirect, and follow one within the session', async () => {
    const provider = inProcess(
      (request, response) => {
        const to = { '/out': 'http://127.0.0.1:1/x', '/in': '/there?a=1', '/round': '/round' }
        const location = to[request.url as keyof typeof to]
        if (location) response.writeHead(302, { location })
        response.end(`answer to ${request.method} ${request.url}`)
      },
      { style: 'node' },
    )
    const session = new SessionCore({ provider })
    onTestFinished(() => session.close())
    session.startup({ url: 'http://calc', initSize: 1 })
    const written: string[] = []
    const { results } = await collect(
      ['GET http://calc/out', 'POST http://calc/in {"a":1}', 'GET http://calc/round'],
      {
        session,
        kind: 'request',
        onOutput: ({ args }, _, chunk) => void written.push(`${args}: ${Buffer.from(chunk)}`),
      },
    )
    const of = (path: string) => results.find(({ args }) => args.includes(path))
    expect(of('/out')).toMatchObject({
      exitStatus: 404,
      message: expect.stringContaining('no service is at http:'),
    })
    expect(of('/in')).toMatchObject({ exitStatus: 0 })
    expect(of('/round')).toMatchObject({
      exitStatus: 502,
      message: expect.stringContaining('more than 20 redirects'),
    })
    // The bodies of redirects are nobody's.
    expect(written).toEqual(['POST http://calc/in {"a":1}: answer to GET /there?a=1'])
  })

  it('that are no URLs, as another program wrote them into the store, fail with a message, and the others go on', async () => {
    const { session } = calc(() => 200)
    const store = await openStore(':memory:')
    onTestFinished(() => store.close())
    const request = { method: 'GET', url: 'http://calc/x', headers: {}, body: null }
    await store.add(['url', 'method', 'good'].map((args) => ({ args, request })))
    for (const wrong of ['url', 'method']) {
      const text = JSON.stringify({ ...request, [wrong]: 'a b' })
      await store.statement(`UPDATE task SET request = '${text}' WHERE args = '${wrong}'`)
    }
    const { counts, results } = await collect(undefined, { session, store, restart: true })
    expect(counts).toMatchObject({ succeeded: 1, failed: 2 })
    const statusOf = (name: string) => results.find(({ args }) => args === name)?.exitStatus
    expect([statusOf('url'), statusOf('method'), statusOf('good')]).toEqual([404, 400, 0])
  })

  it('let live requests pass', async () => {
    const { session, seen } = calc(() => 200)
    const run = serveFrom(
      Array.from({ length: 400 }, (_, n) => `GET http://calc/${n}`),
      { session, kind: 'request', inMemory: true },
    )
    await waitUntil(() => seen.length > 20)
    const client = session.client()
    const before = seen.length
    const { timing } = await client.get('http://calc/live')
    expect(timing?.attempts).toHaveLength(1)
    const passed = seen.findIndex(({ path }) => path === '/live') - before
    // Only those that had a slot already, of 8, were before it.
    expect(passed).toBeLessThanOrEqual(8)
    expect(await run).toMatchObject({ succeeded: 400 })
  })
})

describe('a server that goes on', () => {
  it('takes tasks as they come, cancels a running one, and drains', async () => {
    const store = await openStore(join(createFolder(), 'tasks.db'))
    onTestFinished(() => store.close())
    const run = serveForever({ store, signalWait: 200, poll: 100 })
    const results: TaskResult[] = []
    const reading = (async () => {
      for await (const one of run) results.push(one)
    })()
    await run.ready
    const [long = ''] = await store.add([{ args: 'sleep 60' }])
    await waitUntil(async () => (await store.get(long)).clientId !== null)
    expect(await run.cancel({ where: [`id == ${long}`] })).toBe(1)
    const [quick = ''] = await store.add([{ args: 'true' }])
    await waitUntil(() => results.some(({ id }) => id === quick))
    expect(await store.get(long)).toMatchObject({ exitStatus: -1 })
    run.drain()
    await reading
    expect(await run).toMatchObject({ succeeded: 1, refused: expect.any(Number) })
  })

  it('gives back what it is interrupted in, and another one ends it', async () => {
    const store = await openStore(join(createFolder(), 'tasks.db'))
    onTestFinished(() => store.close())
    const run = runCluster(['sleep 60', 'true'], { store, numTasks: 2, signalWait: 200 })
    await waitUntil(() => run.counts.succeeded === 1)
    run.stop()
    await run
    expect(await store.counts()).toMatchObject({ new: 1, succeeded: 1, scheduled: 0 })
    await store.update({ only: ['remaining'] }, { args: 'echo again' })
    const { counts } = await collect(undefined, { store, restart: true })
    expect(counts).toMatchObject({ submitted: 0, succeeded: 1 })
  })

  it('shares one store with another, and each task is run once', async () => {
    const store = await openStore(join(createFolder(), 'tasks.db'))
    onTestFinished(() => store.close())
    await store.add(Array.from({ length: 300 }, () => ({ args: 'true' })))
    const all = await Promise.all([
      collect(undefined, { store, numTasks: 2 }),
      collect(undefined, { store, numTasks: 2 }),
    ])
    const ids = all.flatMap(({ results }) => results.map(({ id }) => id))
    expect(ids).toHaveLength(300)
    expect(new Set(ids).size).toBe(300)
    expect(await store.numRefused()).toBe(0)
  })
})

/** `submitFrom`: a source into a store or to a server, until its signal says so. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { describe, expect, it, onTestFinished } from 'vitest'
import {
  openStore,
  runCluster,
  type Store,
  serveFile,
  serveFrom,
  submitFile,
  submitFrom,
} from '../../../src/tasks.ts'
import { createFolder } from '../../cli/help.ts'
import { useFalseClock } from '../../clock.ts'
import { catchThrown, rejectionOf } from '../../help.ts'

describe('submitFrom', () => {
  async function store(): Promise<Store> {
    return openStore(':memory:')
  }

  it('is stopped by its signal: what was read is handed in, half a line is not', async () => {
    const kept = await store()
    const source = new PassThrough()
    const stopping = new AbortController()
    const { pass } = useFalseClock()
    const submitted = submitFrom(source, {
      store: kept,
      signal: stopping.signal,
      bundleWait: 3_600_000,
    })
    source.write('rm -r /tmp/x\nrm -r /')
    await pass(1_000)
    expect(await kept.count()).toBe(0)
    stopping.abort()
    expect((await submitted).count).toBe(1)
    expect(await kept.count({ where: ["args == 'rm -r /tmp/x'"] })).toBe(1)
    await kept.close()
  })

  it('reads no further when its signal came before', async () => {
    const kept = await store()
    const signal = AbortSignal.abort()
    expect((await submitFrom(['a', 'b'], { store: kept, signal })).count).toBeLessThan(2)
    expect((await submitFrom(new PassThrough(), { store: kept, signal })).count).toBe(0)
    await kept.close()
  })
})

describe('a file', () => {
  it('is handed in, or served, line by line', async () => {
    const path = join(
      createFolder({ 'jobs.txt': 'true 1\n\n# MANYHOST: group:2\ntrue 2' }),
      'jobs.txt',
    )
    const store = await openStore(':memory:')
    onTestFinished(() => store.close())
    expect((await submitFile(path, { store })).count).toBe(2)
    expect(await serveFile(path, { store })).toMatchObject({ submitted: 2, succeeded: 2 })
    expect(await store.count({ where: ["args == 'true 2'"], group: 2 })).toBe(2)
  })

  it('that does not exist rejects the submission (it ended the program)', async () => {
    const store = await openStore(':memory:')
    onTestFinished(() => store.close())
    expect((await rejectionOf(submitFile('/no/such', { store }))).code).toBe('ENOENT')
    expect((await rejectionOf(serveFile('/no/such', { store }).then())).code).toBe('ENOENT')
    expect(await store.servers()).toEqual([])
  })
})

describe('what is left in a store', () => {
  it('is served without a source, by whichever function, and not with one', async () => {
    const store = await openStore(':memory:')
    onTestFinished(() => store.close())
    for (const serve of [serveFrom, runCluster]) {
      await store.add([{ args: 'true' }])
      expect(await serve(undefined, { store, restart: true })).toMatchObject({ succeeded: 1 })
      const wrong = catchThrown(() => serve(['true'], { store, restart: true }))
      expect(wrong.message).toMatch(/restart works off what the store has left: give no source/)
    }
  })
})

describe('a submission to a server', () => {
  /** Answers each request by the next of `answers`; the requests are in `seen`. */
  async function answering(...answers: (number | 'cut')[]) {
    const seen: { key: unknown; lines: number }[] = []
    const server = createServer(async (request, response) => {
      let body = ''
      for await (const chunk of request) body += chunk
      seen.push({ key: request.headers['idempotency-key'], lines: body.split('\n').length - 1 })
      const answer = answers.shift() ?? 200
      if (answer === 'cut') return void request.socket.destroy()
      response.writeHead(answer, { 'content-type': 'application/json' })
      response.end(answer === 200 ? '{"ids":["a"]}' : '{"detail":"not now"}')
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    onTestFinished(() => void server.close())
    return { seen, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
  }

  it('whose connection was cut is made once more, under the same key', async () => {
    const { seen, url } = await answering('cut')
    expect(await submitFrom(['a'], { server: url })).toMatchObject({ count: 1, ids: ['a'] })
    expect(seen).toHaveLength(2)
    expect(seen[1]).toEqual(seen[0])
    const twice = await answering('cut', 'cut')
    await expect(submitFrom(['a'], { server: twice.url })).rejects.toThrow(/socket|closed/)
    expect(twice.seen).toHaveLength(2)
  })

  it('goes bundle by bundle, each under a key of its own, until one is refused', async () => {
    const { seen, url } = await answering(200, 200, 503)
    const lines = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']
    const error = await rejectionOf(submitFrom(lines, { server: url, bundleSize: 2 }))
    expect(error).toMatchObject({ code: 'MANYHOST_BAD_STATUS', status: 503 })
    expect(error.message).toMatch(/answered 503: not now/)
    expect(seen.map((one) => one.lines)).toEqual([2, 2, 2])
    expect(new Set(seen.map(({ key }) => key)).size).toBe(3)
  })
})

describe('the template of a submission', () => {
  it('that does not fit a line is a fault of that line, and the rest is handed in', async () => {
    const store = await openStore(':memory:')
    onTestFinished(() => store.close())
    const bad: string[] = []
    const { count } = await submitFrom(['a b', 'c', 'd e'], {
      store,
      template: 'mv {[0]} {[1]}',
      onBad: ({ code, message }) => bad.push(`${code} ${message}`),
    })
    expect([count, await store.count({ where: ['args ~ ^mv . .$'] })]).toEqual([2, 2])
    expect(bad).toEqual([expect.stringMatching(/^MANYHOST_INVALID_TASK line 2: .*\{\[1\]\}/)])
  })

  it.each([
    ['echo {% hostname %}', /line 1: .*where the task runs: give the template to the cluster/],
    ['echo {slot}', /line 1: .*has no slot before it runs/],
  ])('needs nothing of who runs the task: %s', async (template, message) => {
    const store = await openStore(':memory:')
    onTestFinished(() => store.close())
    const error = await rejectionOf(submitFrom(['a'], { store, template }))
    expect(error).toMatchObject({
      code: 'MANYHOST_INVALID_TASK',
      message: expect.stringMatching(message),
    })
    expect(await store.count()).toBe(0)
  })
})

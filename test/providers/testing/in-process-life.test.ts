import { once } from 'node:events'
import { afterEach, describe, expect, test } from 'vitest'
import { type InProcessInstance, inProcess } from '../../../providers/testing/index.ts'
import { requestInstance, start, stopAll } from '../../fakes/in-process.ts'
import { createLatch, runEventLoop } from '../../help.ts'

afterEach(stopAll)

describe('instances', () => {
  test('are listed in order of their start while they live', async () => {
    const provider = inProcess(() => new Response())
    const [one] = [await start(provider, { id: 'a' }), await start(provider, { id: 'b' })]
    expect(provider.instances.map(({ id }) => id)).toEqual(['a', 'b'])
    await one.stop(0)
    expect(provider.instances.map(({ id }) => id)).toEqual(['b'])
    await provider.close?.()
    expect(provider.instances).toEqual([])
  })

  test('kill resets connections, waiting requests are refused, `exited` says so', async () => {
    const provider = inProcess((_req, res) => void res.write('x'))
    const one = await start(provider, { concurrency: 1 })
    const res = await requestInstance(one)
    const cut = expect(res.body.text()).rejects.toMatchObject({ code: 'ECONNRESET' })
    const refused = expect(requestInstance(one)).rejects.toMatchObject({ code: 'ECONNREFUSED' })
    provider.instances[0]?.kill('power cut')
    expect(provider.instances).toEqual([])
    await Promise.all([cut, refused])
    expect(await one.exited).toEqual({ reason: 'killed', detail: 'power cut' })
    await expect(requestInstance(one)).rejects.toThrow()
    const signal = new AbortController().signal
    await expect(one.accepts?.(signal)).rejects.toMatchObject({ code: 'MANYHOST_INSTANCE_ENDED' })
    await one.stop(1000)
    expect((await one.exited).reason).toBe('killed')
  })

  test('a frozen instance accepts and does nothing; after thaw it goes on', async () => {
    const provider = inProcess(async (req, res) => {
      res.end(String((await req.toArray()).join('').length))
    })
    const one = await start(provider)
    await (await requestInstance(one)).body.dump()
    const [instance] = provider.instances as [InProcessInstance]
    instance.freeze()
    const settled: string[] = []
    const answers = ['/a', '/b'].map((path) =>
      requestInstance(one, path, { method: 'POST', body: 'x'.repeat(300_000) }).finally(() =>
        settled.push(path),
      ),
    )
    await one.accepts?.(new AbortController().signal)
    await runEventLoop()
    expect([settled, instance.requests]).toEqual([[], 1])
    instance.thaw()
    for (const answer of answers) expect(await (await answer).body.text()).toBe('300000')
  })

  test('the output of a handler is held back while frozen, and a kill still cuts it', async () => {
    const written = createLatch()
    const go = createLatch()
    const provider = inProcess(async (_req, res) => {
      res.write('1')
      await go.promise
      res.write('2')
      written.open()
    })
    const one = await start(provider)
    const res = await requestInstance(one)
    const seen: string[] = []
    res.body.on('data', (chunk) => seen.push(String(chunk)))
    const failed = once(res.body, 'close').catch((error) => error)
    await runEventLoop()
    provider.instances[0]?.freeze()
    go.open()
    await written.promise
    await runEventLoop()
    expect(seen).toEqual(['1'])
    provider.instances[0]?.kill()
    expect(await failed).toMatchObject({ code: 'ECONNRESET' })
    expect(seen).toEqual(['1'])
  })

  test('an abort is not seen before the thaw', async () => {
    const seen: string[] = []
    const provider = inProcess((_req, res) => {
      res.write('x')
      res.once('close', () => seen.push('close'))
    })
    const res = await requestInstance(await start(provider))
    provider.instances[0]?.freeze()
    res.body.on('error', () => {}).destroy()
    await runEventLoop()
    expect(seen).toEqual([])
    provider.instances[0]?.thaw()
    await runEventLoop()
    expect(seen).toEqual(['close'])
  })
})

describe('stop', () => {
  const grace = 60_000

  test('an idle instance ends at once', async () => {
    const one = await start(inProcess(() => new Response()))
    await (await requestInstance(one)).body.dump()
    await one.stop(grace)
    expect(await one.exited).toEqual({ reason: 'stopped', detail: 'stopped' })
  })

  test('running requests end first, whole, and new ones are refused', async () => {
    const go = createLatch()
    const provider = inProcess(async (_req, res) => {
      res.write('a')
      await go.promise
      res.end('b'.repeat(1_000_000))
    })
    const one = await start(provider, { concurrency: 2 })
    const res = await requestInstance(one)
    const stopped = one.stop(grace)
    await expect(requestInstance(one)).rejects.toMatchObject({ code: 'ECONNREFUSED' })
    await expect(one.accepts?.(new AbortController().signal)).rejects.toThrow()
    go.open()
    expect((await res.body.text()).length).toBe(1_000_001)
    await stopped
    expect((await one.exited).detail).toBe('stopped')
    await one.stop(grace)
  })

  test('after the grace it cuts; a second call may shorten it', async () => {
    const one = await start(inProcess((_req, res) => void res.write('x')))
    const res = await requestInstance(one)
    const text = res.body.text()
    const first = one.stop(grace)
    await Promise.all([one.stop(1), first, expect(text).rejects.toThrow()])
    expect(await one.exited).toEqual({ reason: 'stopped', detail: 'stopped, with 1 in flight' })
  })

  test('a frozen instance does not learn of it, until it is thawed or the grace is over', async () => {
    const provider = inProcess(() => new Response())
    const one = await start(provider)
    await (await requestInstance(one)).body.dump()
    const [instance] = provider.instances as [InProcessInstance]
    instance.freeze()
    const stopped = one.stop(grace)
    await runEventLoop()
    expect(provider.instances).toEqual([instance])
    instance.thaw()
    await stopped
    const other = await start(provider)
    provider.instances[0]?.freeze()
    await other.stop(1)
    expect((await other.exited).reason).toBe('stopped')
  })
})

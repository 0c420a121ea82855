import { once } from 'node:events'
import { Readable } from 'node:stream'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { faults, inProcess } from '../../../providers/testing/index.ts'
import {
  describeOutcome,
  requestInstance,
  start,
  startFaulty,
  stopAll,
} from '../../fakes/in-process.ts'
import { runEventLoop } from '../../help.ts'

const always = { percentage: 100 }

afterEach(() => {
  vi.useRealTimers()
  return stopAll()
})

describe('back-pressure', () => {
  const big = 4 * 1024 * 1024

  test.each([{}, { abort: { ...always, after: 'body' } }] as const)(
    'a caller that pauses halts the instance: %o',
    async (options) => {
      let written = 0
      const { one } = await startFaulty(options, (_req, res) => {
        res.setHeader('content-length', big)
        const pieces = function* () {
          for (; written < big; written += 65_536) yield Buffer.alloc(65_536)
        }
        Readable.from(pieces()).pipe(res)
      })
      const res = await requestInstance(one)
      await runEventLoop(200)
      expect(written).toBeLessThan(big / 2)
      let read = 0
      const reading = (async () => {
        for await (const chunk of res.body) read += chunk.length
      })()
      if (options.abort) await expect(reading).rejects.toMatchObject({ code: 'ECONNRESET' })
      else await reading
      expect(read).toBe(options.abort ? big / 2 : big)
    },
  )

  test('an injected response waits as well, and can be given up', async () => {
    const { one } = await startFaulty({ status: { ...always, code: 429 } })
    const calls: string[] = []
    const ended = new Promise<void>((resolve) => {
      one.dispatcher.dispatch(
        { method: 'GET', path: '/' },
        {
          onRequestStart() {},
          onResponseStart(controller) {
            controller.pause()
            setImmediate(() => {
              calls.push('resume')
              controller.resume()
            })
          },
          onResponseEnd() {
            calls.push('end')
            resolve()
          },
          onResponseError() {},
        },
      )
    })
    await ended
    expect(calls).toEqual(['resume', 'end'])
    const aborted = await new Promise((resolve) => {
      one.dispatcher.dispatch(
        { method: 'GET', path: '/' },
        {
          onRequestStart: (controller) => controller.abort(new Error('given up')),
          onResponseStart: () => resolve('answered'),
          onResponseError: (_controller, error) => resolve(error.message),
        },
      )
    })
    expect(aborted).toBe('given up')
  })

  test('a body that is not sent is destroyed', async () => {
    const { one, provider } = await startFaulty({ abort: always })
    for (const options of [{ abort: always }, { status: { ...always, code: 500 } }]) {
      provider.set(options)
      const body = new Readable({ read() {} })
      await requestInstance(one, '/', { method: 'POST', body }).catch(() => {})
      if (!body.closed) await once(body, 'close')
    }
  })
})

describe('delay', () => {
  const toFake = ['setTimeout', 'clearTimeout'] as const

  test('holds the request back, and comes on top of another fault', async () => {
    const { one, provider, served } = await startFaulty({ delay: { ms: 250 } })
    vi.useFakeTimers({ toFake: [...toFake] })
    const answer = requestInstance(one).then((res) => res.body.text())
    await vi.advanceTimersByTimeAsync(249)
    expect(served()).toBe(0)
    await vi.advanceTimersByTimeAsync(1)
    expect(await answer).toBe('0123456789')
    provider.set({ delay: { ms: [10, 20] }, status: { ...always, code: 418 } })
    const teapot = describeOutcome(one)
    await vi.advanceTimersByTimeAsync(20)
    expect(await teapot).toBe('418')
    expect(provider.counts).toMatchObject({ delay: 2, status: 1 })
  })

  test('ends in an error when the instance has ended by then', async () => {
    const { one } = await startFaulty({ delay: { ms: 10 }, status: { ...always, code: 500 } })
    vi.useFakeTimers({ toFake: [...toFake] })
    const answer = describeOutcome(one)
    await one.stop(0)
    await vi.advanceTimersByTimeAsync(10)
    expect(await answer).toBe('UND_ERR_DESTROYED')
  })

  test('of a start, which its signal ends', async () => {
    vi.useFakeTimers({ toFake: [...toFake] })
    const inner = inProcess(() => new Response())
    const provider = faults(inner, { startDelay: { ms: 1000 } })
    const starting = start(provider)
    await vi.advanceTimersByTimeAsync(999)
    expect(inner.instances).toEqual([])
    await vi.advanceTimersByTimeAsync(1)
    await starting
    const aborter = new AbortController()
    const given = start(provider, {}, aborter.signal)
    aborter.abort(new Error('given up'))
    await expect(given).rejects.toThrow('given up')
    expect([inner.instances.length, provider.counts.startDelay]).toEqual([1, 2])
  })
})

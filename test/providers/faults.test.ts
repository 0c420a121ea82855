import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { Client, Dispatcher, request } from 'undici'
import { afterEach, describe, expect, test, vi } from 'vitest'
import { type FaultOptions, seeded } from '../../providers/testing/fault-plan.ts'
import { faults, inProcess, type NodeHandler } from '../../providers/testing/index.ts'
import type { Provider, Running } from '../../src/provider.ts'

const running: Running[] = []
const always = { percentage: 100 }

async function start(provider: Provider, signal = new AbortController().signal): Promise<Running> {
  const id = `i${running.length + 1}`
  const spec = { id, service: 'http://calc', env: {}, labels: {}, concurrency: 4, onOutput() {} }
  const started = await provider.start(spec, { signal })
  running.push(started)
  return started
}

/** A server that counts, behind faults. */
async function faulty(
  options: FaultOptions,
  handler: NodeHandler = (_req, res) => res.end('0123456789'),
) {
  const inner = inProcess(handler, { style: 'node' })
  const provider = faults(inner, options)
  const one = await start(provider)
  return { provider, one, served: () => inner.instances[0]?.requests }
}

const ask = (to: Running, options: object = {}): Promise<Dispatcher.ResponseData> =>
  request('http://calc/', { dispatcher: to.dispatcher, ...options })

const text = async (to: Running): Promise<string> => (await ask(to)).body.text()

/** The status of an answer that came whole, or the code of the error. */
async function outcome(to: Running): Promise<string> {
  try {
    const res = await ask(to)
    // Not dump(): that one takes any end for a good one.
    await res.body.text()
    return String(res.statusCode)
  } catch (error) {
    return String((error as { code?: unknown }).code)
  }
}

/** What a handler is told, one word a call, for both of undici's shapes. */
function told(to: Dispatcher, shape: 'old' | 'new', options: object = {}): Promise<string[]> {
  return new Promise((resolve) => {
    const calls: string[] = []
    const say = (word: string): void => void calls.push(word)
    const end = (word: string): void => {
      say(word)
      setImmediate(() => resolve(calls))
    }
    const old: Dispatcher.DispatchHandler = {
      onConnect: () => say('start'),
      onHeaders: (status) => {
        say(String(status))
        return true
      },
      onData: (chunk) => {
        say(String(chunk))
        return true
      },
      onUpgrade: (status, _headers, socket) => {
        socket.destroy()
        end(`upgrade ${status}`)
      },
      onComplete: () => end('end'),
      onError: (error) => end((error as { code?: string }).code ?? error.message),
    }
    const now: Dispatcher.DispatchHandler = {
      onRequestStart: () => say('start'),
      onResponseStart: (_controller, status) => say(String(status)),
      onResponseData: (_controller, chunk) => say(String(chunk)),
      onRequestUpgrade: (_controller, status, _headers, socket) => {
        socket.destroy()
        end(`upgrade ${status}`)
      },
      onResponseEnd: () => end('end'),
      onResponseError: (_controller, error) =>
        end((error as { code?: string }).code ?? error.message),
    }
    to.dispatch({ method: 'GET', path: '/', ...options }, shape === 'old' ? old : now)
  })
}

afterEach(async () => {
  vi.useRealTimers()
  await Promise.all(running.splice(0).map((one) => one.stop(0)))
})

describe.each(['old', 'new'] as const)('a handler of the %s shape', (shape) => {
  test('without a fault is told everything', async () => {
    const { one } = await faulty({})
    expect(await told(one.dispatcher, shape)).toEqual(['start', '200', '0123456789', 'end'])
  })

  test("abort after 'request': no start, and the instance sees nothing", async () => {
    const { one, provider, served } = await faulty({ abort: always })
    expect(await told(one.dispatcher, shape)).toEqual(['ECONNRESET'])
    expect([served(), provider.counts.abort]).toEqual([0, 1])
  })

  test("abort after 'headers': the instance has served it", async () => {
    const { one, provider, served } = await faulty({ abort: { ...always, after: 'headers' } })
    expect(await told(one.dispatcher, shape)).toEqual(['start', 'ECONNRESET'])
    expect([served(), provider.counts.abort]).toEqual([1, 1])
  })

  test("abort after 'body': half of it comes, with a length and without", async () => {
    const { one, provider } = await faulty({ abort: { ...always, after: 'body' } })
    expect(await told(one.dispatcher, shape)).toEqual(['start', '200', '01234', 'ECONNRESET'])
    const chunked = await faulty({ abort: { ...always, after: 'body' } }, (_req, res) => {
      res.write('abcd')
      setImmediate(() => res.end('efgh'))
    })
    expect(await told(chunked.one.dispatcher, shape)).toEqual(['start', '200', 'ab', 'ECONNRESET'])
    expect(provider.counts.abort).toBe(1)
  })

  test("abort after 'body' of an answer that has none: its end is what breaks", async () => {
    const { one } = await faulty({ abort: { ...always, after: 'body' } })
    const head = await told(one.dispatcher, shape, { method: 'HEAD' })
    expect(head).toEqual(['start', '200', 'ECONNRESET'])
  })

  test('status: answered in place of the instance', async () => {
    const { one, provider, served } = await faulty({ status: { ...always, code: 503 } })
    expect(await told(one.dispatcher, shape)).toEqual(['start', '503', 'end'])
    expect([served(), provider.counts.status]).toEqual([0, 1])
  })

  test('upgrade passes, or breaks', async () => {
    const upgrade = { upgrade: 'echo' }
    const inner = inProcess(() => new Response(), {
      upgrade: (_req, socket) => {
        socket.on('error', () => {}).on('end', () => socket.end())
        socket.write('HTTP/1.1 101 Yes\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n')
      },
    })
    const provider = faults(inner, {})
    const one = await start(provider)
    expect(await told(one.dispatcher, shape, upgrade)).toEqual(['start', 'upgrade 101'])
    provider.set({ abort: { ...always, after: 'headers' } })
    expect(await told(one.dispatcher, shape, upgrade)).toEqual(['start', 'ECONNRESET'])
  })

  test('of an old hand-written Dispatcher behind the faults, too', async () => {
    const client = new (class extends Dispatcher {
      override dispatch(
        _options: Dispatcher.DispatchOptions,
        handler: Dispatcher.DispatchHandler,
      ): boolean {
        queueMicrotask(() => {
          handler.onRequestStart?.(controller, {})
          handler.onResponseStart?.(controller, 200, {})
          handler.onResponseData?.(controller, Buffer.from('ab'))
          handler.onResponseEnd?.(controller, {})
        })
        return true
      }
    })()
    // It ignores that it is aborted.
    const controller = { aborted: false, paused: false, reason: null } as never
    Object.assign(controller, { abort() {}, pause() {}, resume() {} })
    const inner: Provider = {
      name: 'by hand',
      capabilities: new Set(['command']),
      start: async () => ({ dispatcher: client, exited: new Promise(() => {}), async stop() {} }),
    }
    const provider = faults(inner, {})
    const one = await start(provider)
    expect(await told(one.dispatcher, shape)).toEqual(['start', '200', 'ab', 'end'])
    provider.set({ abort: { ...always, after: 'headers' } })
    expect(await told(one.dispatcher, shape)).toEqual(['start', 'ECONNRESET'])
    expect([provider.name, provider.capabilities.has('command')]).toEqual(['by hand', true])
    expect([provider.close, one.accepts, one.address]).toEqual([undefined, undefined, undefined])
  })
})

describe('back-pressure', () => {
  const big = 4 * 1024 * 1024

  test.each([{}, { abort: { ...always, after: 'body' } }] as const)(
    'a caller that pauses halts the instance: %o',
    async (options) => {
      let written = 0
      const { one } = await faulty(options, (_req, res) => {
        res.setHeader('content-length', big)
        const pieces = function* () {
          for (; written < big; written += 65_536) yield Buffer.alloc(65_536)
        }
        Readable.from(pieces()).pipe(res)
      })
      const res = await ask(one)
      for (let i = 0; i < 200; i++) await new Promise((resolve) => setImmediate(resolve))
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

  test('an answer of ours waits as well, and can be given up', async () => {
    const { one } = await faulty({ status: { ...always, code: 429 } })
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
    const { one, provider } = await faulty({ abort: always })
    for (const options of [{ abort: always }, { status: { ...always, code: 500 } }]) {
      provider.set(options)
      const body = new Readable({ read() {} })
      await ask(one, { method: 'POST', body }).catch(() => {})
      if (!body.closed) await once(body, 'close')
    }
  })
})

describe('delay', () => {
  const toFake = ['setTimeout', 'clearTimeout'] as const

  test('holds the request back, and comes on top of another fault', async () => {
    const { one, provider, served } = await faulty({ delay: { ms: 250 } })
    vi.useFakeTimers({ toFake: [...toFake] })
    const answer = text(one)
    await vi.advanceTimersByTimeAsync(249)
    expect(served()).toBe(0)
    await vi.advanceTimersByTimeAsync(1)
    expect(await answer).toBe('0123456789')
    provider.set({ delay: { ms: [10, 20] }, status: { ...always, code: 418 } })
    const teapot = outcome(one)
    await vi.advanceTimersByTimeAsync(20)
    expect(await teapot).toBe('418')
    expect(provider.counts).toMatchObject({ delay: 2, status: 1 })
  })

  test('ends in an error when the instance has ended by then', async () => {
    const { one } = await faulty({ delay: { ms: 10 }, status: { ...always, code: 500 } })
    vi.useFakeTimers({ toFake: [...toFake] })
    const answer = outcome(one)
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
    const given = start(provider, aborter.signal)
    aborter.abort(new Error('given up'))
    await expect(given).rejects.toThrow('given up')
    expect([inner.instances.length, provider.counts.startDelay]).toEqual([1, 2])
  })
})

describe('instances', () => {
  test('startFailure: the start fails, the provider is not asked', async () => {
    const inner = inProcess(() => new Response())
    const provider = faults(inner, { startFailure: always })
    await expect(start(provider)).rejects.toMatchObject({ code: 'MANYHOST_START_FAILED' })
    expect([inner.instances.length, provider.counts.startFailure]).toEqual([0, 1])
    provider.set({})
    await start(provider)
  })

  test.each(['request', 'headers', 'body'] as const)('kill after %s', async (after) => {
    const { one, provider } = await faulty({ kill: { ...always, after } }, (req, res) => {
      if (req.url === '/') res.end('0123456789')
    })
    provider.set({})
    const hanging = request('http://calc/hangs', { dispatcher: one.dispatcher })
    const hanged = expect(hanging).rejects.toMatchObject({ code: expect.stringMatching(/^ECONN/) })
    provider.set({ kill: { ...always, after } })
    expect(await outcome(one)).toBe('ECONNRESET')
    expect(await one.exited).toEqual({ reason: 'killed', detail: 'injected fault' })
    await hanged
    await expect(one.accepts?.(new AbortController().signal)).rejects.toThrow()
    expect(provider.counts.kill).toBe(1)
  })

  test('an instance that ends otherwise says why; close reaches the provider', async () => {
    const { one, provider } = await faulty({ kill: always })
    await provider.close?.()
    expect((await one.exited).reason).toBe('stopped')
  })

  test('real sockets behave alike', async () => {
    const server = createServer((_req, res) => res.end('0123456789')).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const client = new Client(`http://127.0.0.1:${port}`)
    const provider = faults(
      {
        name: 'real',
        capabilities: new Set(),
        start: async () => ({
          dispatcher: client,
          exited: new Promise(() => {}),
          stop: () => client.destroy(),
        }),
      },
      {},
    )
    const one = await start(provider)
    const seen = [await told(one.dispatcher, 'old')]
    for (const after of ['request', 'headers', 'body'] as const) {
      provider.set({ abort: { ...always, after } })
      seen.push(await told(one.dispatcher, 'old'))
    }
    expect(seen).toEqual([
      ['start', '200', '0123456789', 'end'],
      ['ECONNRESET'],
      ['start', 'ECONNRESET'],
      ['start', '200', '01234', 'ECONNRESET'],
    ])
    await client.destroy()
    server.close()
  })
})

describe('the seed', () => {
  const mixed: FaultOptions = {
    seed: 7,
    abort: { percentage: 30, after: 'headers' },
    status: { percentage: 30, code: 500 },
  }

  async function sequence(one: Running, length = 60): Promise<string[]> {
    const seen: string[] = []
    for (let i = 0; i < length; i++) seen.push(await outcome(one))
    return seen
  }

  test('gives the same faults in the same order, and another seed others', async () => {
    const [one, two] = [await faulty(mixed), await faulty(mixed)]
    const first = await sequence(one.one)
    expect(await sequence(two.one)).toEqual(first)
    expect(new Set(first)).toEqual(new Set(['200', '500', 'ECONNRESET']))
    const { abort, status } = one.provider.counts
    expect(abort).toBe(first.filter((seen) => seen === 'ECONNRESET').length)
    expect(status).toBe(first.filter((seen) => seen === '500').length)
    one.provider.set(mixed)
    expect(await sequence(one.one)).toEqual(first)
    one.provider.set({ ...mixed, seed: 8 })
    expect(await sequence(one.one)).not.toEqual(first)
  })

  test('an option that is turned off moves no other fault', async () => {
    const { status: _, ...abortOnly } = mixed
    const [both, aborts] = [await faulty(mixed), await faulty(abortOnly)]
    const with500 = await sequence(both.one)
    const without = await sequence(aborts.one)
    expect(without).toEqual(with500.map((seen) => (seen === '500' ? '200' : seen)))
  })

  test('percentages are what they say', () => {
    const random = seeded(1)
    const drawn = Array.from({ length: 20_000 }, random)
    expect(Math.min(...drawn)).toBeGreaterThanOrEqual(0)
    expect(Math.max(...drawn)).toBeLessThan(1)
    const share = drawn.filter((value) => value < 0.3).length / drawn.length
    expect(share).toBeCloseTo(0.3, 1)
  })
})

describe('options', () => {
  test.each([
    [{ abort: { percentage: 101 } }, 'abort.percentage must be a number from 0 to 100, got 101'],
    [{ abort: {} }, 'abort.percentage must be a number from 0 to 100, got undefined'],
    [
      { abort: { percentage: 1, after: 'x' } },
      'abort.after must be one of request, headers, body, got "x"',
    ],
    [{ kill: 5 }, 'kill must be an object of percentage, after, got 5'],
    [{ seed: 1.5 }, 'seed must be a whole number from 0 to 4294967295, got 1.5'],
    [{ delay: { ms: Number.NaN } }, 'delay.ms must be a number from 0, got NaN'],
    [{ delay: { ms: [2, 1] } }, 'delay.ms[1] must be a number from 2, got 1'],
    [{ delay: { ms: [1] } }, 'delay.ms must be a number or [min, max], got [1]'],
    [
      { startDelay: { ms: 1, percentage: -1 } },
      'startDelay.percentage must be a number from 0 to 100, got -1',
    ],
    [
      { status: { code: 99, percentage: 1 } },
      'status.code must be a whole number from 200 to 599, got 99',
    ],
    [
      { startFailure: { code: 1, percentage: 1 } },
      'an option of startFailure must be one of percentage, got "code"',
    ],
    [
      { latency: 1 },
      'an option of faults must be one of seed, delay, abort, status, kill, startDelay, startFailure, got "latency"',
    ],
  ])('%j is refused', async (options, message) => {
    const inner = inProcess(() => new Response('fine'))
    const error = expect.objectContaining({ code: 'MANYHOST_INVALID_OPTION', message })
    expect(() => faults(inner, options as never)).toThrow(error)
    const provider = faults(inner, { status: { code: 500, percentage: 100 } })
    const one = await start(provider)
    expect(() => provider.set(options as never)).toThrow(error)
    expect(await outcome(one)).toBe('500')
  })
})

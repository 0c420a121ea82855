import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Client, Dispatcher } from 'undici'
import { afterEach, describe, expect, test } from 'vitest'
import { faults, inProcess } from '../../../providers/testing/index.ts'
import type { Provider } from '../../../src/core/provider.ts'
import {
  describeOutcome,
  recordHandlerCalls,
  requestInstance,
  start,
  startFaulty,
  stopAll,
} from '../../fakes/in-process.ts'

const always = { percentage: 100 }

afterEach(stopAll)

describe.each(['old', 'new'] as const)('a handler of the %s shape', (shape) => {
  test('without a fault gets every call', async () => {
    const { one } = await startFaulty({})
    expect(await recordHandlerCalls(one.dispatcher, shape)).toEqual([
      'start',
      '200',
      '0123456789',
      'end',
    ])
  })

  test("abort after 'request': no start, and the instance sees nothing", async () => {
    const { one, provider, served } = await startFaulty({ abort: always })
    expect(await recordHandlerCalls(one.dispatcher, shape)).toEqual(['ECONNRESET'])
    expect([served(), provider.counts.abort]).toEqual([0, 1])
  })

  test("abort after 'headers': the instance has served it", async () => {
    const { one, provider, served } = await startFaulty({ abort: { ...always, after: 'headers' } })
    expect(await recordHandlerCalls(one.dispatcher, shape)).toEqual(['start', 'ECONNRESET'])
    expect([served(), provider.counts.abort]).toEqual([1, 1])
  })

  test("abort after 'body': half of it comes, with a length and without", async () => {
    const { one, provider } = await startFaulty({ abort: { ...always, after: 'body' } })
    expect(await recordHandlerCalls(one.dispatcher, shape)).toEqual([
      'start',
      '200',
      '01234',
      'ECONNRESET',
    ])
    const chunked = await startFaulty({ abort: { ...always, after: 'body' } }, (_req, res) => {
      res.write('abcd')
      setImmediate(() => res.end('efgh'))
    })
    expect(await recordHandlerCalls(chunked.one.dispatcher, shape)).toEqual([
      'start',
      '200',
      'ab',
      'ECONNRESET',
    ])
    expect(provider.counts.abort).toBe(1)
  })

  test("abort after 'body' of an empty response: its end breaks", async () => {
    const { one } = await startFaulty({ abort: { ...always, after: 'body' } })
    const head = await recordHandlerCalls(one.dispatcher, shape, { method: 'HEAD' })
    expect(head).toEqual(['start', '200', 'ECONNRESET'])
  })

  test('status: answered in place of the instance', async () => {
    const { one, provider, served } = await startFaulty({ status: { ...always, code: 503 } })
    expect(await recordHandlerCalls(one.dispatcher, shape)).toEqual(['start', '503', 'end'])
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
    expect(await recordHandlerCalls(one.dispatcher, shape, upgrade)).toEqual([
      'start',
      'upgrade 101',
    ])
    provider.set({ abort: { ...always, after: 'headers' } })
    expect(await recordHandlerCalls(one.dispatcher, shape, upgrade)).toEqual([
      'start',
      'ECONNRESET',
    ])
  })

  test('of a hand-written Dispatcher of the old kind behind the faults', async () => {
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
    expect(await recordHandlerCalls(one.dispatcher, shape)).toEqual(['start', '200', 'ab', 'end'])
    provider.set({ abort: { ...always, after: 'headers' } })
    expect(await recordHandlerCalls(one.dispatcher, shape)).toEqual(['start', 'ECONNRESET'])
    expect([provider.name, provider.capabilities.has('command')]).toEqual(['by hand', true])
    expect([provider.close, one.accepts, one.address]).toEqual([undefined, undefined, undefined])
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
    const { one, provider } = await startFaulty({ kill: { ...always, after } }, (req, res) => {
      if (req.url === '/') res.end('0123456789')
    })
    provider.set({})
    const hanging = requestInstance(one, '/hangs')
    const hanged = expect(hanging).rejects.toMatchObject({ code: expect.stringMatching(/^ECONN/) })
    provider.set({ kill: { ...always, after } })
    expect(await describeOutcome(one)).toBe('ECONNRESET')
    expect(await one.exited).toEqual({ reason: 'killed', detail: 'injected fault' })
    await hanged
    await expect(one.accepts?.(new AbortController().signal)).rejects.toThrow()
    expect(provider.counts.kill).toBe(1)
  })

  test('an instance that ends by itself keeps its reason; close reaches the provider', async () => {
    const { one, provider } = await startFaulty({ kill: always })
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
    const seen = [await recordHandlerCalls(one.dispatcher, 'old')]
    for (const after of ['request', 'headers', 'body'] as const) {
      provider.set({ abort: { ...always, after } })
      seen.push(await recordHandlerCalls(one.dispatcher, 'old'))
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

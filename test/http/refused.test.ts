/**
 * Requests that cannot be sent: their caller hears so at once, and nobody else feels anything. Where nothing is said
 * otherwise the service has no instance at all, so that whatever waits for a slot would never be answered.
 */
import { Readable } from 'node:stream'
import { Client, type Dispatcher, request } from 'undici'
import { describe, expect, onTestFinished, test } from 'vitest'
import { createPatchedPool } from '../../src/core/http/patched-pool.ts'
import { echo } from '../fakes/echo.ts'
import { openRawServer, openService } from '../fakes/service.ts'
import { catchThrown, NEVER, rejectionOf, waitUntil } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'
import fc from '../properties.ts'

expectNothingLeft()

type Options = Partial<Dispatcher.RequestOptions> & Record<string, unknown>

/** Refused by all doors that can express them. */
const HEADERS: Record<string, unknown> = {
  'transfer-encoding': { 'transfer-encoding': 'chunked' },
  'keep-alive': { 'Keep-Alive': 'timeout=5' },
  upgrade: { upgrade: 'websocket', connection: 'upgrade' },
  'a length that is no number': { 'content-length': 'abc' },
  'a length below 0': { 'content-length': '-1' },
  'a length with a fraction': { 'content-length': '1.5' },
  'an empty length': { 'content-length': '' },
  'two lengths': [
    ['content-length', '3'],
    ['Content-Length', '3'],
  ],
  'another length than that of the body': { 'content-length': '5' },
  'two hosts': [
    ['host', 'a'],
    ['Host', 'a'],
  ],
  'connection of no token': { connection: 'a b' },
  'an empty connection': { connection: '' },
  'a newline': { a: '1\nb: 2' },
  'a carriage return': { a: '1\r' },
  'a NUL': { a: '\0' },
  'a DEL': { a: '\x7f' },
  'beyond latin1': { a: '\u20ac' },
  'a newline in one of several': { a: ['1', '2\r\n'] },
  'an object': { a: { b: 1 } },
  'an object in an array': { a: [{}] },
  'a symbol': { a: Symbol('a') },
  'a function': { a: () => '1' },
  'a space in a name': { 'a b': '1' },
  'an empty name': { '': '1' },
  'a colon in a name': { 'a:': '1' },
  'a name beyond ASCII': { é: '1' },
  'half a pair': ['a'],
  'a triple': [['a', '1', '2']],
  'a pair without a name': [[1, '2']],
}

const OTHERS: Record<string, Options> = {
  'a method of two words': { method: 'A B' as never },
  'a method with a newline': { method: 'GET\r\n' as never },
  'an empty method': { method: '' as never },
  'a number for a method': { method: 3 as never },
  'a path without a slash': { path: 'x' },
  'an empty path': { path: '' },
  'a path with a space': { path: '/a b' },
  'a path with a newline': { path: '/\n' },
  'a path beyond latin1': { path: '/\u20ac' },
  'a number for a path': { path: 5 as never },
  'no path': { path: undefined as never },
  'a query beside a query': { path: '/?a', query: { b: 1 } },
  'upgrade: true': { upgrade: true },
  'upgrade with a newline': { upgrade: 'a\nb' },
  'headers that are a text': { headers: 'a: b' as never },
  'headers that are a number': { headers: 3 as never },
  'headersTimeout below 0': { headersTimeout: -1 },
  'headersTimeout NaN': { headersTimeout: Number.NaN },
  'headersTimeout as text': { headersTimeout: '5' as never },
  'bodyTimeout infinite': { bodyTimeout: Number.POSITIVE_INFINITY },
  'reset as text': { reset: 'yes' as never },
  'expectContinue as number': { expectContinue: 1 as never },
  throwOnError: { throwOnError: true },
  maxRedirections: { maxRedirections: 2 },
  'typeOfService too large': { typeOfService: 256 },
  'priority NaN': { priority: Number.NaN },
  'priority as text': { priority: 'high' },
  'timeout NaN': { timeout: Number.NaN },
  'an unknown resend': { resend: 'maybe' },
  'a number for affinity': { affinity: 5 },
  'an idempotency key with a newline': { idempotencyKey: 'a\nb' },
  'an empty idempotency key': { idempotencyKey: '' },
  'a number for a body': { body: 5 as never },
  'an object for a body': { body: {} as never },
}

const CODES = /^MANYHOST_(INVALID_REQUEST|INVALID_OPTION)$/

/** What `dispatch` tells its handler. */
function heard(dispatcher: Dispatcher, options: Options): Promise<Error & { code?: string }> {
  return new Promise((resolve, reject) => {
    const all = { origin: 'http://calc', path: '/', method: 'POST', body: 'abc', ...options }
    dispatcher.dispatch(all as Dispatcher.DispatchOptions, {
      onRequestStart: () => undefined,
      onResponseStart: () => reject(new Error('it was answered')),
      onResponseError: (_controller, error) => resolve(error),
    })
  })
}

describe('by the dispatcher', () => {
  const cases = {
    ...OTHERS,
    ...Object.fromEntries(
      Object.entries(HEADERS).map(([name, headers]) => [
        `headers: ${name}`,
        { headers } as Options,
      ]),
    ),
  }
  for (const [name, options] of Object.entries(cases)) {
    test(name, async () => {
      const { session } = openService(echo, { initSize: 0 })
      const error = await heard(session.dispatcher(), options)
      expect(error.code).toMatch(CODES)
      expect(session.cluster('http://calc').stats().arrivals).toBe(0)
      await session.close()
    })
  }

  test("it is undici's promise that is rejected, with the code of the kind", async () => {
    const { session } = openService(echo, { initSize: 0 })
    const dispatcher = session.dispatcher()
    const headers = { 'transfer-encoding': 'chunked' }
    const options = { dispatcher, headers, method: 'POST', body: 'x' } as const
    const error = await rejectionOf(request('http://calc/', options))
    expect(error).toMatchObject({ code: 'MANYHOST_INVALID_REQUEST', status: 400, retryable: false })
    expect(error.message).toMatch(/transfer-encoding .* leave it out/)
  })
})

describe('by the client', () => {
  for (const [name, headers] of Object.entries(HEADERS)) {
    test(`headers: ${name}`, async () => {
      const { session, client } = openService(echo, { initSize: 0 })
      const options = { body: 'abc', headers } as object
      expect((await rejectionOf(client.post('http://calc/', options))).code).toMatch(CODES)
      expect(session.cluster('http://calc').stats().arrivals).toBe(0)
    })
  }

  test('headers that every request is to have are refused when the client is made', () => {
    const { session } = openService(echo, { initSize: 0 })
    expect(catchThrown(() => session.client({ headers: { 'keep-alive': '1' } })).code).toMatch(
      CODES,
    )
  })

  test('to the network, too', async () => {
    const { url } = await openRawServer((socket) => socket.end())
    const { client } = openService(echo, { initSize: 0 })
    for (const headers of [{ 'transfer-encoding': 'x' }, { 'content-length': 'abc' }]) {
      const error = await rejectionOf(client.post(url, { body: 'abc', headers }))
      expect(error.code).toBe('MANYHOST_INVALID_REQUEST')
    }
    const error = await rejectionOf(client.post(url, { body: 'abc', idempotencyKey: 'a\nb' }))
    expect(error.code).toBe('MANYHOST_INVALID_REQUEST')
  })
})

describe('by fetch', () => {
  // All others are refused by the class `Headers`, or made to something else by it.
  const names = ['transfer-encoding', 'keep-alive', 'upgrade', 'a length that is no number']
  for (const name of [...names, 'connection of no token', 'two lengths']) {
    test(name, async () => {
      const { session } = openService(echo, { initSize: 0 })
      const init = { method: 'POST', body: 'abc', headers: HEADERS[name] as never }
      const error = await rejectionOf(session.fetch('http://calc/', init))
      expect(error.cause).toMatchObject({ code: 'MANYHOST_INVALID_REQUEST' })
    })
  }
})

describe('nobody else feels it', () => {
  test('refused requests by all doors, then plain ones, and a close that waits for nothing', async () => {
    const all = [
      ...Object.values(OTHERS),
      ...Object.values(HEADERS).map((headers) => ({ headers }) as Options),
    ]
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.constantFrom(...all), fc.constantFrom('raw', 'request', 'client')), {
          minLength: 2,
          maxLength: 12,
        }),
        async (asked) => {
          const { session, client } = openService(echo, { drainTimeout: NEVER })
          const dispatcher = session.dispatcher()
          const cluster = session.cluster('http://calc')
          await (await client.get('http://calc/')).text()
          for (const [options, door] of asked) {
            if (door === 'raw') await heard(dispatcher, options)
            else if (door === 'request') {
              const { path = '/', ...rest } = options
              const url = `http://calc${path === '/' ? '' : '/?a'}`
              const given = { dispatcher, method: 'POST', body: 'abc', ...rest }
              // Not all of them can be said this way, and those are served.
              await request(url, given as never).then(
                ({ body }) => body.dump(),
                () => undefined,
              )
            } else {
              const { headers = { a: '\n' } } = options
              await rejectionOf(
                client.post('http://calc/', { body: 'abc', headers: headers as never }),
              )
            }
            await waitUntil(() => cluster.inFlight === 0 && cluster.requestQueue.isEmpty)
          }
          const answers = await Promise.all([1, 2, 3].map(() => client.get('http://calc/')))
          expect(answers.map(({ status }) => status)).toEqual([200, 200, 200])
          expect(cluster.stats()).toMatchObject({ resends: 0, ejections: 0 })
          await session.close()
        },
      ),
      { numRuns: 40 },
    )
  })

  test('a body shorter or longer than its length fails, and its slot is free again', async () => {
    const { session, client } = openService(echo)
    const headers = { 'content-length': '5' }
    for (const chunks of [['abc'], ['abc', 'def'], []]) {
      const body = (async function* () {
        yield* chunks
      })()
      const error = await rejectionOf(client.post('http://calc/', { body, headers }))
      expect(error.code).toBe('MANYHOST_BODY_FAILED')
    }
    expect((await client.post('http://calc/', { body: 'abc' })).status).toBe(200)
    expect(session.cluster('http://calc').stats().resends).toBe(0)
    await session.close()
  })
})

describe('handlers that are none, or throw', () => {
  test('an upgrade whose handler takes no tunnel is refused', async () => {
    const { session } = openService(echo, { initSize: 0 })
    for (const how of [{ upgrade: 'a' }, { method: 'CONNECT', path: 'a:1' }] as Options[]) {
      const error = await heard(session.dispatcher(), how)
      expect([error.code, error.message]).toEqual([
        'MANYHOST_INVALID_REQUEST',
        expect.stringContaining('onRequestUpgrade'),
      ])
    }
  })

  test('one that throws when it hears of an error: others are served', async () => {
    const { session, client } = openService(echo)
    const warnings: string[] = []
    const onWarning = ({ message }: Error): void => void warnings.push(message)
    process.on('warning', onWarning)
    onTestFinished(() => void process.off('warning', onWarning))
    const dispatcher = session.dispatcher()
    const abort = (controller: Dispatcher.DispatchController): void =>
      controller.abort(new Error('enough'))
    const ways: [Options, Partial<Dispatcher.DispatchHandler>][] = [
      [{ headers: { 'a b': '' } }, {}],
      [{ path: '/' }, { onRequestStart: abort }],
      [{ path: '/' }, { onResponseStart: abort }],
      [{ path: '/', timeout: 1_000_000, headersTimeout: 1, body: Readable.from(['x']) }, {}],
    ]
    for (const [options, handler] of ways) {
      const all = { origin: 'http://calc', path: '/', method: 'POST', ...options }
      dispatcher.dispatch(all as unknown as Dispatcher.DispatchOptions, {
        onRequestStart: () => undefined,
        onResponseStart: abort,
        onResponseError: () => {
          throw new Error('mine')
        },
        ...handler,
      })
      expect((await client.get('http://calc/')).status).toBe(200)
    }
    await waitUntil(() => session.cluster('http://calc').inFlight === 0)
    // Handlers are a kind of function, and are reported once.
    await waitUntil(() => warnings.length > 0)
    expect(warnings).toEqual([expect.stringMatching(/onResponseError .* threw: mine/)])
  })
})

describe('the pool behind a check that is missing', () => {
  test('keeps its connections, whatever it refuses', async () => {
    const { url, connections } = await openRawServer((socket) => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok')
    })
    const pool = createPatchedPool(url, { connections: 2 })
    const get = async (): Promise<string> =>
      (await pool.request({ path: '/', method: 'GET' })).body.text()
    for (let round = 0; round < 3; round++) {
      for (const headers of [
        { 'transfer-encoding': 'x' },
        { expect: 'x' },
        { a: '\n' },
        { 'a b': '' },
      ]) {
        await rejectionOf(pool.request({ path: '/', method: 'GET', headers }))
      }
      // Refused while it waits for a connection, when that is free.
      const waiting = [get(), get(), rejectionOf(pool.request({ path: ' ', method: 'GET' })), get()]
      expect(await Promise.all(waiting)).toEqual(['ok', 'ok', expect.any(Error), 'ok'])
    }
    expect(connections()).toBe(2)
    await pool.close()
  })
})

describe('beside undici', () => {
  /** Whether a plain undici pool refuses a request. It never gets a connection, and so sends nothing. */
  function undiciRefuses(options: Options): boolean {
    const agent = new Client('http://calc', { connect: () => undefined })
    let refused = false
    const handler = {
      onRequestStart: () => undefined,
      onResponseError: () => {
        refused = true
      },
    }
    const all = { path: '/', method: 'GET', ...options } as Dispatcher.DispatchOptions
    agent.dispatch(all, handler)
    const answer = refused
    void agent.destroy()
    return answer
  }

  const piece = fc.constantFrom(
    ...[
      'a',
      'Z',
      '5',
      '/',
      '?',
      '#',
      ' ',
      '\t',
      '\n',
      '\r',
      '\0',
      '\x7f',
      'é',
      'ÿ',
      '€',
      ':',
      ',',
      '(',
      '!',
      '%',
    ],
  )
  const text = fc.string({ unit: piece, maxLength: 3 })
  const name = fc.oneof(
    fc.constantFrom('a', 'host', 'Connection', 'content-length', 'TE', 'upgrade', 'keep-alive'),
    fc.constantFrom(
      'transfer-encoding',
      'trailer',
      'cookie',
      'constructor',
      '__proto__',
      'x-request-id',
    ),
    text,
  )
  const value = fc.oneof(
    text,
    fc.constantFrom<unknown>(
      'close',
      'keep-alive, x',
      '3',
      '03',
      3,
      0,
      true,
      null,
      undefined,
      {},
      1n,
    ),
    fc.array(fc.oneof(text, fc.constantFrom<unknown>(null, 1, {})), { maxLength: 2 }),
  )
  const headers = fc.array(fc.tuple(name, value), { maxLength: 3 })
  const option: fc.Arbitrary<Options> = fc.oneof(
    headers.map((pairs) => ({ headers: Object.fromEntries(pairs) as never })),
    headers.map((pairs) => ({ headers: pairs.flat() as never })),
    headers.map((pairs) => ({ headers: new Map(pairs) as never })),
    text.map((path) => ({ path: `/${path}` })),
    text.map((path) => ({ path })),
    text.map((method) => ({ method: method as never })),
    fc.tuple(text, text).map(([path, q]) => ({ path: `/${path}`, query: { [q]: q } })),
    text.map((upgrade) => ({ upgrade })),
    fc
      .tuple(
        fc.constantFrom(
          'headersTimeout',
          'bodyTimeout',
          'reset',
          'expectContinue',
          'typeOfService',
        ),
        fc.constantFrom<unknown>(0, 1, 1.5, -1, 256, Number.NaN, Infinity, '1', true, false, null),
      )
      .map(([key, one]) => ({ [key]: one })),
  )

  /** Where ours is more liberal, on purpose: several values of one name are several headers. */
  function isMoreLiberal(given: Options): boolean {
    const list = given.headers as unknown
    if (list === undefined) return false
    const values = list instanceof Map ? [...list.values()] : Object.values(list as object)
    return values.some((one) => Array.isArray(one))
  }

  test('what undici refuses is refused, and nothing else', () => {
    const { session } = openService(echo, { initSize: 0 })
    const dispatcher = session.dispatcher()
    fc.assert(
      fc.property(option, (options) => {
        let refused = false
        let controller: Dispatcher.DispatchController | undefined
        dispatcher.dispatch(
          { origin: 'http://calc', path: '/', method: 'GET', ...options } as never,
          {
            onRequestStart: (its) => {
              controller = its
            },
            onRequestUpgrade: (_its, _status, _headers, socket) => void socket.destroy(),
            onResponseError: () => {
              refused = true
            },
          },
        )
        const ours = refused
        controller?.abort(new Error('enough'))
        const theirs = undiciRefuses(options)
        if (ours !== theirs) expect([ours, isMoreLiberal(options)]).toEqual([false, true])
      }),
      { numRuns: 4_000 },
    )
    expect(session.cluster('http://calc').requestQueue.size).toBe(0)
  })
})

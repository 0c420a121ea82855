/**
 * For virtual URLs the dispatcher does what undici does. Each row is asked of a plain undici agent in front of a server,
 * and of a session's dispatcher whose service is that server; what comes out must be the same. Where it is not, on
 * purpose, docs/dispatcher.md says so, and the end of this file shows it.
 */
import { Readable, Writable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { setTimeout as wait } from 'node:timers/promises'
import {
  Agent,
  pipeline as ask,
  type Dispatcher,
  FormData,
  fetch,
  Headers,
  interceptors,
  request,
  stream,
} from 'undici'
import { describe, expect, onTestFinished, test } from 'vitest'
import { fixed } from '../../providers/static.ts'
import { mirror } from '../fakes/mirror.ts'
import { openSession } from '../fakes/service.ts'
import { expectNothingLeft } from '../leftovers.ts'

expectNothingLeft()

interface To {
  readonly dispatcher: Dispatcher
  readonly origin: string
}

type Row = (to: To) => Promise<unknown>
type Options = Record<string, unknown>

/** `request` of undici, told with all that its caller sees. */
function asked(path: string, options: Options | (() => Options) = {}): Row {
  return async ({ dispatcher, origin }) => {
    const given = typeof options === 'function' ? options() : options
    const answer = await request(`${origin}${path}`, { dispatcher, ...given } as never)
    const { statusCode, statusText, headers, body, trailers, opaque } = answer
    return {
      statusCode,
      statusText,
      headers: told(headers),
      body: await body.text(),
      trailers: told(trailers),
      opaque,
    }
  }
}

/** Headers as any user sees them; without those that the clock decides. */
function told(headers: unknown): unknown {
  if (Array.isArray(headers)) return headers.map(String)
  const entries = Object.entries(headers as object)
  return entries.filter(([name]) => name !== 'date' && name !== 'keep-alive')
}

/** An answer of the raw handler interface, as its calls. */
function handled(options: Options, given: Partial<Dispatcher.DispatchHandler> = {}): Row {
  return ({ dispatcher, origin }) =>
    new Promise((resolve) => {
      const calls: unknown[] = []
      dispatcher.dispatch({ origin, path: '/show', method: 'GET', ...options } as never, {
        onRequestStart: () => void calls.push('start'),
        onResponseStart: (_controller, status, headers, message) => {
          calls.push([status, message, told(headers)])
        },
        onResponseData: (_controller, chunk) => void calls.push(String(chunk)),
        onResponseEnd: (_controller, trailers) => resolve([...calls, 'end', told(trailers)]),
        onResponseError: (_controller, error) => resolve([...calls, kindOf(error)]),
        ...given,
      })
    })
}

/** The same by the handlers that undici had before version 7. */
function oldHandled(options: Options): Row {
  return ({ dispatcher, origin }) =>
    new Promise((resolve) => {
      const calls: unknown[] = []
      dispatcher.dispatch(
        { origin, path: '/names', method: 'GET', ...options } as never,
        {
          onConnect: () => void calls.push('connect'),
          onHeaders: (status: number, headers: Buffer[], _resume: unknown, message: string) => {
            calls.push([
              status,
              message,
              headers
                .flat()
                .map((one) => one.toString('latin1').toLowerCase())
                .toSorted(),
            ])
            return true
          },
          onData: (chunk: Buffer) => {
            calls.push(String(chunk))
            return true
          },
          onComplete: () => resolve([...calls, 'end']),
          onError: (error: Error) => resolve([...calls, kindOf(error)]),
        } as never,
      )
    })
}

async function viaFetch({ dispatcher, origin }: To, path: string, init: Options = {}) {
  const answer = await fetch(`${origin}${path}`, { dispatcher, ...init } as never)
  const { status, statusText, redirected, type, url } = answer
  const headers = [...answer.headers].filter(([name]) => !['date', 'keep-alive'].includes(name))
  return {
    status,
    statusText,
    redirected,
    type,
    url: new URL(url || origin).pathname,
    headers,
    body: await answer.text(),
  }
}

const REFUSED =
  /^MANYHOST_INVALID|^UND_ERR_(INVALID_ARG|NOT_SUPPORTED|REQ_CONTENT_LENGTH_MISMATCH)$/

/** How an error is told: by undici's own name for it. Requests that cannot be sent have many there, and one here. */
function kindOf(thrown: unknown): string {
  const error = thrown as Error & { code?: string | number }
  const cause = error.cause as (Error & { code?: string }) | undefined
  if (REFUSED.test(String(error.code))) return 'refused'
  if (/Query params cannot be passed/.test(error.message)) return 'refused'
  if (error.message === 'fetch failed' && cause) return `fetch failed: ${kindOf(cause)}`
  if (String(error.code).startsWith('MANYHOST_') && cause) return kindOf(cause)
  // The session's connections tell a reset by its own name.
  if (error.code === 'ECONNRESET') return 'UND_ERR_SOCKET'
  return typeof error.code === 'string' ? error.code : `${error.name}: ${error.message}`
}

const stringy = (): Options => ({
  a: undefined,
  b: null,
  c: ['1', 2, null],
  d: {},
  e: true,
  f: 'é &+',
  g: 7n,
  h: NaN,
})

const REQUESTS: Record<string, Row> = {
  'a plain GET': asked('/show'),
  'a path with a query of its own': asked('/show?a=1&b'),
  'a path of odd characters': asked('//a//b/../c%20d/;x=(1)'),
  HEAD: asked('/show', { method: 'HEAD' }),
  OPTIONS: asked('/show', { method: 'OPTIONS' }),
  DELETE: asked('/show', { method: 'DELETE' }),
  'DELETE with a body': asked('/show', { method: 'DELETE', body: 'x' }),
  'GET with a body': asked('/show', { method: 'GET', body: 'x' }),
  'a method of the body alone': asked('/show', { body: 'x' }),
  'POST without a body': asked('/show', { method: 'POST' }),
  'a method of WebDAV': asked('/show', { method: 'PROPFIND', body: '<a/>' }),
  'another method': asked('/show', { method: 'PURGE' }),
  'status, reason and body of a 404': asked('/404'),
  '204': asked('/204'),
  '304': asked('/304'),
  'a redirect as it is': asked('/301'),
  gzip: asked('/gzip'),
  chunks: asked('/chunks'),
  'names that are those of every object': asked('/names'),
  'trailers, of such names, too': asked('/trailers'),
  'an answer that is reset': asked('/reset'),
}

const QUERIES: Record<string, Row> = {
  'values of all types': asked('/show', () => ({ query: stringy() })),
  'names of all objects': asked('/show', () => ({
    query: JSON.parse('{"__proto__":1,"constructor":2}'),
  })),
  'no value at all': asked('/show', { query: {} }),
  'an empty array': asked('/show', { query: { a: [] } }),
  'a query that is a text': asked('/show', { query: 'a=b' }),
  'beside a query in the path': asked('/show?a', { query: { b: 1 } }),
}

const HEADERS: Record<string, unknown> = {
  'an object, with values of all types': { a: '1', b: 2, c: null, d: undefined, e: true, F: '' },
  'arrays, with null in them': { a: ['1', null, 2], b: [] },
  'names and values in turn': ['a', '1', 'B', '2', 'a', '3'],
  'names and values in turn, with null and numbers': ['a', null, 'b', 2],
  'a Map': new Map([['a', '1']]),
  'an instance of Headers': new Headers({ a: '1', b: '2' }),
  'null for all': null,
  'an object as a value': { a: {} },
  'an object in an array': { a: [{}] },
  'half a pair': ['a', '1', 'b'],
  'names of all objects': JSON.parse('{"__proto__":"1","constructor":"2","toString":"3"}'),
  'latin1 values': { a: '\xe9\xff' },
  'spaces around a value': { a: ' 1 ' },
  'connection: close': { connection: 'close' },
  'connection: keep-alive': { Connection: 'keep-alive' },
  'a text': 'a: b',
  'a content-type of its own': { 'content-type': 'a/b' },
  'transfer-encoding': { 'transfer-encoding': 'chunked' },
  'the right length': { 'content-length': '3' },
  'the right length as a number': { 'content-length': 3 },
  'a wrong length': { 'content-length': '4' },
  'te and trailer': { te: 'trailers', trailer: 'x' },
}

const BODIES: Record<string, () => unknown> = {
  'no text': () => '',
  text: () => 'é€',
  bytes: () => Buffer.from('abc'),
  'no bytes': () => Buffer.alloc(0),
  'a view': () => new Uint8Array(Buffer.from('xabcx')).subarray(1, 4),
  'a view of words': () => new Uint16Array([0x6161, 0x6262]),
  'an ArrayBuffer': () => new Uint8Array([97, 98]).buffer,
  'a blob': () => new Blob(['abc']),
  'a blob with a type': () => new Blob(['abc'], { type: 'a/b' }),
  'an empty blob': () => new Blob([]),
  'a stream of Node': () => Readable.from([Buffer.from('a'), Buffer.from('bc')]),
  'an empty stream of Node': () => Readable.from([]),
  'an async generator': async function* () {
    yield 'a'
    yield new Uint8Array([98])
  },
  'a generator': function* () {
    yield 'abc'
  },
  'an array of texts': () => ['a', 'bc'],
  null: () => null,
  'a number': () => 5,
  'an object': () => ({}),
  'a stream that fails': () =>
    Readable.from(
      (async function* () {
        yield 'a'
        await wait(1)
        throw new Error('midway')
      })(),
    ),
}
const isFunctionOfBody = (name: string): boolean =>
  name === 'an async generator' || name === 'a generator'

const form = (): FormData => {
  const made = new FormData()
  made.set('a', 'é')
  made.set('f', new Blob(['xyz'], { type: 'a/b' }), 'f.txt')
  return made
}

const OPTIONS: Record<string, Row> = {
  'reset: true': asked('/show', { reset: true }),
  'reset: false of a HEAD': asked('/show', { method: 'HEAD', reset: false }),
  'reset that is none': asked('/show', { reset: 'yes' }),
  'blocking: true': asked('/show', { blocking: true }),
  'blocking: false': asked('/show', { blocking: false }),
  'idempotent: false': asked('/show', { idempotent: false }),
  'expectContinue: true': asked('/show', { method: 'POST', body: 'x', expectContinue: true }),
  'expectContinue that is none': asked('/show', { expectContinue: 1 }),
  throwOnError: asked('/404', { throwOnError: true }),
  'maxRedirections: 0': asked('/301', { maxRedirections: 0 }),
  'maxRedirections: 1': asked('/301', { maxRedirections: 1 }),
  "responseHeaders: 'raw'": async (to) => {
    const answer = await asked('/names', { responseHeaders: 'raw' })(to)
    return answer
  },
  onInfo: async (to) => {
    const infos: unknown[] = []
    const onInfo = ({ statusCode, headers }: { statusCode: number; headers: object }) =>
      infos.push([statusCode, told(headers)])
    return [await asked('/hints', { onInfo })(to), infos]
  },
  'opaque and highWaterMark': asked('/big', { opaque: { mine: 1 }, highWaterMark: 10 }),
  'headersTimeout: what comes in time': asked('/show', {
    headersTimeout: 60_000,
    bodyTimeout: 60_000,
  }),
  'headersTimeout: 0 is no limit': asked('/show', { headersTimeout: 0, bodyTimeout: 0 }),
  headersTimeout: asked('/never', { headersTimeout: 50 }),
  'headersTimeout of a POST': asked('/never', { headersTimeout: 50, method: 'POST', body: 'x' }),
  'headersTimeout that is none': asked('/show', { headersTimeout: -1 }),
  bodyTimeout: asked('/stalls', { bodyTimeout: 50 }),
  'bodyTimeout that is none': asked('/show', { bodyTimeout: 'x' }),
  'an upgrade that is none': asked('/show', { upgrade: true }),
  'a callback': ({ dispatcher, origin }) =>
    new Promise((resolve) => {
      dispatcher.request({ origin, path: '/404', method: 'GET' }, (error, data) => {
        void data.body.text().then((body) => resolve([error, data.statusCode, body]))
      })
    }),
  'a callback of a request that cannot be sent': ({ dispatcher, origin }) =>
    new Promise((resolve) => {
      const options = { origin, path: '/', method: 'GET', headers: { 'a b': '' } } as const
      dispatcher.request(options, (error) => resolve(error && kindOf(error)))
    }),
}

const SIGNALS: Record<string, Row> = {
  'aborted before': asked('/show', () => ({ signal: AbortSignal.abort() })),
  'aborted before, with a reason': asked('/show', () => ({
    signal: AbortSignal.abort(new Error('mine')),
  })),
  'a signal of time': asked('/never', () => ({ signal: AbortSignal.timeout(30) })),
  'aborted while it is asked': async (to) => {
    const abort = new AbortController()
    setTimeout(() => abort.abort(new Error('mine')), 30)
    return asked('/never', { signal: abort.signal })(to)
  },
  'aborted in its body': async ({ dispatcher, origin }) => {
    const abort = new AbortController()
    const { body } = await request(`${origin}/stalls`, { dispatcher, signal: abort.signal })
    abort.abort(new Error('mine'))
    return body.text()
  },
  'a body that is destroyed': async ({ dispatcher, origin }) => {
    const { body } = await request(`${origin}/stalls`, { dispatcher })
    body.destroy(new Error('mine'))
    return body.text()
  },
  'by an emitter': async ({ dispatcher, origin }) => {
    const { EventEmitter } = await import('node:events')
    const signal = new EventEmitter()
    setTimeout(() => signal.emit('abort'), 30)
    return (await request(`${origin}/never`, { dispatcher, signal })).statusCode
  },
}

const OTHER_WAYS: Record<string, Row> = {
  stream: async ({ dispatcher, origin }) => {
    const chunks: string[] = []
    const seen: unknown[] = []
    const sent = { dispatcher, method: 'POST', body: 'abc', opaque: 1 } as const
    await stream(`${origin}/show`, sent, ({ statusCode, headers, opaque }) => {
      seen.push(statusCode, told(headers), opaque)
      return new Writable({
        write(chunk, _encoding, done) {
          chunks.push(String(chunk))
          done()
        },
      })
    })
    return [seen, chunks.join('')]
  },
  'stream with a factory that throws': async ({ dispatcher, origin }) =>
    stream(`${origin}/show`, { dispatcher, method: 'GET' }, () => {
      throw new Error('mine')
    }),
  pipeline: async ({ dispatcher, origin }) => {
    const sent = { dispatcher, method: 'POST' } as const
    const piped = Readable.from(['a', 'b']).pipe(ask(`${origin}/show`, sent, ({ body }) => body))
    // undici may say the length of a stream that has ended before it is sent; ours are sent in chunks.
    return JSON.parse(await text(piped)).body
  },
  'pipeline with a handler that throws': async ({ dispatcher, origin }) => {
    const through = ask(`${origin}/show`, { dispatcher, method: 'POST' }, () => {
      throw new Error('mine')
    })
    through.end('x')
    return text(through)
  },
  upgrade: async ({ dispatcher, origin }) => {
    const { socket, headers } = await dispatcher.upgrade({
      origin,
      path: '/up',
      protocol: 'a',
    } as never)
    socket.write('hello')
    return [told(headers), await text(socket)]
  },
  'upgrade that is refused': async ({ dispatcher, origin }) =>
    dispatcher.upgrade({ origin, path: '/refused', protocol: 'a' } as never),
  connect: async ({ dispatcher, origin }) => {
    const { statusCode, headers, socket } = await dispatcher.connect({
      origin,
      path: 'a:1',
    } as never)
    socket.write('hello')
    return [statusCode, told(headers), await text(socket)]
  },
  'the calls of a handler': handled({}),
  'the calls of a handler, for an answer in chunks': handled({ path: '/chunks' }),
  'the calls of a handler, with 1xx and names of all objects': handled({ path: '/names' }),
  'the calls of an old handler': oldHandled({}),
  'no handler': async ({ dispatcher, origin }) =>
    dispatcher.dispatch({ origin, path: '/', method: 'GET' }, undefined as never),
  'a handler that pauses': ({ dispatcher, origin }) =>
    new Promise((resolve) => {
      let bytes = 0
      dispatcher.dispatch(
        { origin, path: '/big', method: 'GET' },
        {
          onRequestStart: () => undefined,
          onResponseData: (controller, chunk) => {
            bytes += chunk.length
            controller.pause()
            setImmediate(() => controller.resume())
          },
          onResponseEnd: () => resolve(bytes),
          onResponseError: (_controller, error) => resolve(kindOf(error)),
        },
      )
    }),
  'a handler that aborts at the head': ({ dispatcher, origin }) =>
    new Promise((resolve) => {
      dispatcher.dispatch(
        { origin, path: '/big', method: 'GET' },
        {
          onRequestStart: () => undefined,
          onResponseStart: (controller) => controller.abort(new Error('mine')),
          onResponseEnd: () => resolve('end'),
          onResponseError: (_controller, error) => resolve(kindOf(error)),
        },
      )
    }),
}

const FETCHES: Record<string, Row> = {
  'a GET': (to) => viaFetch(to, '/show'),
  'a POST of text': (to) => viaFetch(to, '/show', { method: 'POST', body: 'é' }),
  'a POST of a form': (to) => viaFetch(to, '/show', { method: 'POST', body: form() }),
  'a POST of a stream': (to) =>
    viaFetch(to, '/show', { method: 'POST', body: new Blob(['abc']).stream(), duplex: 'half' }),
  'a POST of parameters': (to) =>
    viaFetch(to, '/show', { method: 'POST', body: new URLSearchParams({ a: 'é' }) }),
  HEAD: (to) => viaFetch(to, '/show', { method: 'HEAD' }),
  gzip: (to) => viaFetch(to, '/gzip'),
  '204': (to) => viaFetch(to, '/204'),
  '304': (to) => viaFetch(to, '/304'),
  'a redirect, followed': (to) => viaFetch(to, '/301'),
  'a redirect of a POST': (to) => viaFetch(to, '/307', { method: 'POST', body: 'x' }),
  'a redirect as it is': (to) => viaFetch(to, '/301', { redirect: 'manual' }),
  'a redirect as an error': (to) => viaFetch(to, '/301', { redirect: 'error' }),
  'a circle of redirects': (to) => viaFetch(to, '/circle'),
  'names of all objects': (to) => viaFetch(to, '/names'),
  'headers that cannot be sent': (to) => viaFetch(to, '/show', { headers: { 'keep-alive': 'x' } }),
  aborted: (to) => viaFetch(to, '/never', { signal: AbortSignal.timeout(30) }),
  'an answer that is reset': (to) => viaFetch(to, '/reset'),
}

const composed =
  (path: string, more: Options, ...layers: Dispatcher.DispatcherComposeInterceptor[]): Row =>
  ({ dispatcher, origin }) =>
    asked(path, more)({ dispatcher: dispatcher.compose(layers), origin })

const COMPOSED: Record<string, Row> = {
  responseError: composed('/json', {}, interceptors.responseError()),
  'responseError of what is good': composed('/show', {}, interceptors.responseError()),
  redirect: composed('/301', {}, interceptors.redirect({ maxRedirections: 3 })),
  'redirect of a POST': composed(
    '/307',
    { method: 'POST', body: 'x' },
    interceptors.redirect({ maxRedirections: 3 }),
  ),
  'redirect without end': composed('/circle', {}, interceptors.redirect({ maxRedirections: 3 })),
  retry: composed('/503', {}, interceptors.retry({ maxRetries: 2, minTimeout: 1, maxTimeout: 2 })),
  dump: composed('/big', {}, interceptors.dump({ maxSize: 400_000 })),
  'dump of too much': composed('/big', {}, interceptors.dump({ maxSize: 1_000 })),
  cache: composed('/show', {}, interceptors.cache()),
  'redirect and retry': composed(
    '/301',
    {},
    interceptors.redirect({ maxRedirections: 1 }),
    interceptors.retry(),
  ),
}

const ROWS: Record<string, Record<string, Row>> = {
  request: REQUESTS,
  query: QUERIES,
  headers: Object.fromEntries(
    Object.entries(HEADERS).map(([name, headers]) => [
      name,
      asked('/show', { method: 'POST', body: 'abc', headers }),
    ]),
  ),
  body: {
    ...Object.fromEntries(
      Object.entries(BODIES).map(([name, make]) => [
        name,
        asked('/show', () => ({ method: 'POST', body: isFunctionOfBody(name) ? make() : make() })),
      ]),
    ),
    'the length of a stream': asked('/show', () => ({
      method: 'POST',
      headers: { 'content-length': '3' },
      body: Readable.from(['abc']),
    })),
    'a stream shorter than its length': asked('/show', () => ({
      method: 'POST',
      headers: { 'content-length': '4' },
      body: Readable.from(['abc']),
    })),
  },
  option: OPTIONS,
  signal: SIGNALS,
  'other ways': OTHER_WAYS,
  fetch: FETCHES,
  compose: COMPOSED,
}

/**
 * Rows that are compared with undici behind an interceptor: there, as with ours, old handlers get headers that were
 * parsed into an object before.
 */
const COMPOSED_ROWS = new Set([
  "responseHeaders: 'raw'",
  'the calls of an old handler',
  'no handler',
])

async function outcome(row: Row, to: To): Promise<unknown> {
  try {
    return { answer: await row(to) }
  } catch (error) {
    return { error: kindOf(error) }
  }
}

for (const [what, rows] of Object.entries(ROWS)) {
  describe(what, () => {
    for (const [name, row] of Object.entries(rows)) {
      test(name, async () => {
        const origin = await mirror()
        const agent = new Agent()
        onTestFinished(() => agent.destroy())
        const session = openSession(fixed({ urls: [origin] }))
        session.startup({ url: 'http://calc', resend: 'never' })
        const plain = COMPOSED_ROWS.has(name) ? agent.compose((dispatch) => dispatch) : agent
        const theirs = await outcome(row, { dispatcher: plain, origin })
        const ours = await outcome(row, { dispatcher: session.dispatcher(), origin: 'http://calc' })
        expect(ours).toEqual(theirs)
      })
    }
  })
}

describe('otherwise than undici, on purpose', () => {
  async function both(row: Row): Promise<[ours: unknown, theirs: unknown]> {
    const origin = await mirror()
    const agent = new Agent()
    onTestFinished(() => agent.destroy())
    const session = openSession(fixed({ urls: [origin] }))
    session.startup({ url: 'http://calc', resend: 'never' })
    const ours = await outcome(row, { dispatcher: session.dispatcher(), origin: 'http://calc' })
    return [ours, await outcome(row, { dispatcher: agent, origin })]
  }
  const shownFields = (got: unknown): string[] => {
    const { body } = (got as { answer: { body: string } }).answer
    return (JSON.parse(body) as { fields: string[] }).fields
  }

  test('Expect: 100-continue is taken, and left out', async () => {
    const headers = { expect: '100-continue' }
    const [ours, theirs] = await both(asked('/show', { method: 'POST', body: 'x', headers }))
    expect(theirs).toEqual({ error: 'refused' })
    expect(shownFields(ours)).toEqual(['connection: keep-alive', 'content-length: 1'])
  })

  test('headers may be given as pairs', async () => {
    const [ours, theirs] = await both(
      asked('/show', {
        headers: [
          ['a', '1'],
          ['a', '2'],
        ],
      }),
    )
    expect((theirs as { error: string }).error).toMatch(/TypeError/)
    expect(shownFields(ours)).toEqual(['a: 1', 'a: 2', 'connection: keep-alive'])
  })

  test('undefined in an array of values is no value', async () => {
    const [ours, theirs] = await both(asked('/show', { headers: { a: [undefined, '1'] } }))
    expect(shownFields(theirs)).toContain('a: undefined')
    expect(shownFields(ours)).toEqual(['a: 1', 'connection: keep-alive'])
  })

  test('parameters are a body', async () => {
    const body = new URLSearchParams({ a: 'é' })
    const [ours] = await both(asked('/show', { method: 'POST', body }))
    expect(shownFields(ours)).toContain(
      'content-type: application/x-www-form-urlencoded;charset=UTF-8',
    )
  })

  test('a body may be a function that makes one', async () => {
    const body = () => Readable.from(['abc'])
    const [ours, theirs] = await both(asked('/show', { method: 'POST', body }))
    expect(theirs).toEqual({ error: 'refused' })
    expect(shownFields(ours)).toContain('transfer-encoding: chunked')
  })
})

import { Readable } from 'node:stream'
import { describe, expect, test } from 'vitest'
import type { QueryLike } from '../../src/client/request.ts'
import type { HeadersLike, RequestOptions } from '../../src/index.ts'
import { echo } from '../fakes/echo.ts'
import { openService, openSession } from '../fakes/service.ts'
import { waitUntil } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'

expectNothingLeft()

describe('what a request carries', () => {
  const bytes = new Uint8Array([0, 255, 13, 10, 128])
  const raw = Buffer.from(bytes).toString('latin1')
  const bodies: Record<string, [() => unknown, string]> = {
    text: [() => 'text é', Buffer.from('text é').toString('latin1')],
    'empty text': [() => '', ''],
    bytes: [() => bytes, raw],
    'a view of a larger buffer': [() => new DataView(bytes.buffer, 1, 2), raw.slice(1, 3)],
    ArrayBuffer: [() => bytes.buffer, raw],
    Blob: [() => new Blob([bytes]), raw],
    URLSearchParams: [() => new URLSearchParams({ a: '1 2', b: 'é' }), 'a=1+2&b=%C3%A9'],
    'a web stream': [() => new Blob([bytes, bytes]).stream(), raw + raw],
    'a Node stream': [() => Readable.from([Buffer.from(bytes), 'x']), `${raw}x`],
    'an async iterable': [
      (async function* chunks() {
        yield 'a'
        yield bytes
      })(),
      `a${raw}`,
    ] as never,
    'an iterable': [() => ['a', bytes], `a${raw}`],
    'a function that gives text': [() => () => 'made', 'made'],
    'an async function that gives a stream': [
      () => async () => Readable.from(['ma', 'de']),
      'made',
    ],
    'a function that gives nothing': [() => () => null, ''],
  }
  for (const [name, [make, seen]] of Object.entries(bodies)) {
    test(`body: ${name}`, async () => {
      const { client } = openService(echo)
      const body = typeof make === 'function' ? make() : make
      const res = await client.put('http://calc/', { body: body as RequestOptions['body'] })
      expect((await res.json()).body).toBe(seen)
    })
  }

  test('json, and a content type of the caller', async () => {
    const { client } = openService(echo)
    const one = await (await client.post('http://calc/', { json: { a: [1, 'é'] } })).json()
    expect(JSON.parse(Buffer.from(one.body, 'latin1').toString())).toEqual({ a: [1, 'é'] })
    expect(one.headers['content-type']).toBe('application/json')
    const headers = { 'Content-Type': 'application/problem+json' }
    const other = await (await client.post('http://calc/', { json: null, headers })).json()
    expect([other.body, other.headers['content-type']]).toEqual([
      'null',
      'application/problem+json',
    ])
  })

  test('form: urlencoded, with repeated names; multipart with files', async () => {
    const { client } = openService(echo)
    const one = await (
      await client.post('http://calc/', { form: { a: ['1', 2], b: 'x y', none: undefined } })
    ).json()
    expect(one.body).toBe('a=1&a=2&b=x+y')
    expect(one.headers['content-type']).toMatch(/^application\/x-www-form-urlencoded/)
    const form = new FormData()
    form.append('name', 'value')
    form.append('file', new Blob(['content'], { type: 'text/css' }), 'a "b".css')
    const other = await (await client.post('http://calc/', { form })).json()
    const parsed = await new Response(Buffer.from(other.body, 'latin1'), {
      headers: { 'content-type': other.headers['content-type'] },
    }).formData()
    const file = parsed.get('file') as File
    expect([parsed.get('name'), file.name, file.type, await file.text()]).toEqual([
      'value',
      'a "b".css',
      'text/css',
      'content',
    ])
  })

  test('query: appended to the own one, which stays as it was written', async () => {
    const { client } = openService(echo)
    const sent = async (url: string, query: QueryLike): Promise<string> =>
      (await (await client.get(url, { query })).json()).url
    expect(await sent('http://calc/p', { a: 1, b: ['x', 'y'], c: null, d: true })).toBe(
      '/p?a=1&b=x&b=y&d=true',
    )
    expect(await sent('http://calc/p?q=%20&&e=a+b%2F#frag', { a: 'é &' })).toBe(
      '/p?q=%20&&e=a+b%2F&a=%C3%A9+%26',
    )
    expect(await sent('http://calc/p?', [['a', 1]])).toBe('/p?a=1')
    expect(await sent('http://calc', new URLSearchParams('z=1&z=2'))).toBe('/?z=1&z=2')
    expect(await sent('http://calc/p', {})).toBe('/p')
  })

  test('query and form: what is null or undefined is left out, whatever the shape', async () => {
    const { client } = openService(echo)
    const day = new Date(0)
    const given = {
      a: undefined,
      b: null,
      c: ['1', null, undefined, true],
      d: new URL('http://x/'),
      e: day,
    }
    const wanted = [
      ['c', '1'],
      ['c', 'true'],
      ['d', 'http://x/'],
      ['e', String(day)],
    ]
    for (const query of [given, Object.entries(given)]) {
      const seen = await (await client.get('http://calc/', { query: query as never })).json()
      expect([...new URLSearchParams(seen.url.slice(2))]).toEqual(wanted)
    }
    const seen = await (await client.post('http://calc/', { form: given })).json()
    expect([...new URLSearchParams(seen.body)]).toEqual(wanted)
  })

  test('headers: what is null or undefined is left out, in arrays, too', async () => {
    const { client } = openService(echo)
    const headers = { 'x-a': null, 'x-b': [null, '1', undefined], 'x-c': undefined, 'x-d': [] }
    const { rawHeaders } = await (await client.get('http://calc/', { headers })).json()
    expect(rawHeaders.filter((text: string) => /^x-[a-d]$/.test(text))).toEqual(['x-b'])
  })

  test('headers: object, pairs, Headers, arrays; defaults are replaced by name, whatever the case', async () => {
    const { session } = openService(echo)
    const client = session.client({ headers: { 'X-Default': 'd', 'X-Both': 'default' } })
    const seen = async (headers: HeadersLike): Promise<string[]> => {
      const { rawHeaders } = await (await client.get('http://calc/', { headers })).json()
      const pairs: string[] = []
      for (let i = 0; i < rawHeaders.length; i += 2) {
        if (/^x-(default|both)/i.test(rawHeaders[i])) pairs.push(rawHeaders.slice(i, i + 2).join())
      }
      return pairs
    }
    expect(await seen({ 'x-both': ['1', 2] })).toEqual(['X-Default,d', 'x-both,1', 'x-both,2'])
    expect(await seen([['X-BOTH', 'é']])).toEqual(['X-Default,d', 'X-BOTH,é'])
    expect(await seen(new Headers({ 'x-both': '1' }))).toEqual(['X-Default,d', 'x-both,1'])
    expect(await seen(['x-both', '1', 'x-default', '2'])).toEqual(['x-both,1', 'x-default,2'])
    expect(await seen({})).toEqual(['X-Default,d', 'X-Both,default'])
  })

  test('baseUrl', async () => {
    const { session } = openService(echo)
    const client = session.client({ baseUrl: 'http://calc/v1/' })
    expect((await (await client.get('a?b')).json()).url).toBe('/v1/a?b')
    expect((await (await client.get('/a')).json()).url).toBe('/a')
    expect((await (await client.get('a', { query: { q: 1 } })).json()).url).toBe('/v1/a?q=1')
  })
})

describe('bad input is refused at once', () => {
  const bad: Record<string, [object, RegExp]> = {
    'an unknown option': [{ jsn: 1 }, /GET: unknown option 'jsn'; known: priority, /],
    'a negative timeout': [{ timeout: -1 }, /timeout must be milliseconds from 0 up.* got -1/],
    'NaN priority': [{ priority: Number.NaN }, /priority must be a finite number, got NaN/],
    'an unknown resend': [{ resend: 'maybe' }, /resend must be 'always', .* got "maybe"/],
    'an empty key': [{ idempotencyKey: '' }, /idempotencyKey must be a non-empty string/],
    'a number for a signal': [{ signal: 3 }, /signal must be an AbortSignal, got 3/],
    'a text for a query': [{ query: 'a=b' }, /query must be .*, got "a=b"/],
    'a text for a form': [{ form: 'a=b' }, /form must be .*, got "a=b"/],
    'an unknown redirect': [{ redirect: 'no' }, /redirect must be 'follow', /],
    'half a redirect': [{ maxRedirects: 0.5 }, /maxRedirects must be a whole number from 0/],
    'two bodies': [{ json: 1, body: '1' }, /json, form and body exclude each other/],
    'a body that is none': [{ body: 3 }, /body: a string, bytes, .* got 3/],
    'a header name': [{ headers: { 'a b': '1' } }, /headers: a name has .*"a b"/],
    'a header value': [{ headers: { a: '1\r\nb: 2' } }, /headers: the value of a has .*"1\\r\\nb/],
    'an object in a query': [{ query: { a: {} } }, /query: "a" must be a text, a number/],
    'an object in pairs of a query': [{ query: [['a', { b: 1 }]] }, /query: "a" must be a text/],
    'an object without a prototype': [{ query: { a: Object.create(null) } }, /query: "a" must be/],
    'a symbol in a query': [{ query: { a: [Symbol('b')] } }, /query: "a" .* got Symbol\(b\)/],
    'an object in a form': [{ form: { a: [{}] } }, /form: "a" must be a text, a number/],
    'a BigInt in JSON': [{ json: { a: 1n } }, /json: it cannot be written as JSON: .*BigInt/],
    'a function as JSON': [{ json: () => 1 }, /json: JSON has no function/],
    'half a pair': [{ headers: ['a'] }, /headers: names and values .* got 1/],
    'no object': [3 as never, /options must be an object, got 3/],
  }
  for (const [name, [options, message]] of Object.entries(bad)) {
    test(name, async () => {
      // Nobody is there to serve it, and nobody needs to be.
      const { client } = openService(echo, { initSize: 0 })
      await expect(client.get('http://calc/', options)).rejects.toMatchObject({
        code: 'MANYHOST_INVALID_OPTION',
        message: expect.stringMatching(message),
      })
    })
  }

  test('methods and URLs', async () => {
    const { client, session } = openService(echo, { initSize: 0 })
    for (const method of ['', 'A B', 'GET\r\n', 'CONNECT', 3 as never]) {
      await expect(client.request(method, 'http://calc/')).rejects.toMatchObject({
        code: 'MANYHOST_INVALID_OPTION',
      })
    }
    for (const url of [
      '',
      'calc',
      '/x',
      'ftp://calc/',
      'http://',
      'http://u:p@calc/',
      'http://a:99999',
    ]) {
      for (const options of [{}, { query: { a: 1 } }]) {
        await expect(client.get(url, options)).rejects.toMatchObject({
          code: 'MANYHOST_INVALID_URL',
        })
      }
    }
    expect(() => session.client({ headers: { 'a b': '1' } })).toThrow(/headers: a name/)
    expect(() => session.client({ tiemout: 1 } as never)).toThrow(/unknown option 'tiemout'/)
    expect(session.cluster('http://calc').requestQueue.size).toBe(0)
  })

  test('requests after close, of the client and of the session; `await using`', async () => {
    const { session, provider } = openService(echo)
    {
      await using client = session.client()
      const inFlight = client.get('http://calc/')
      await client.close()
      await expect(client.get('http://calc/')).rejects.toMatchObject({
        code: 'MANYHOST_SESSION_CLOSED',
      })
      expect((await inFlight).status).toBe(200)
    }
    const client = session.client()
    await session.close()
    await expect(client.get('http://calc/')).rejects.toMatchObject({
      code: 'MANYHOST_SESSION_CLOSED',
    })
    await waitUntil(() => provider.instances.length === 0)
    await expect(openSession(provider).client().get('http://127.0.0.1:1/')).rejects.toMatchObject({
      code: 'MANYHOST_ATTEMPT_FAILED',
    })
  })
})

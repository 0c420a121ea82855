import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import type { NodeHandler } from '../../providers/testing/index.ts'
import type { ServiceOptions } from '../../src/index.ts'
import { openRawService, openService } from '../fakes/service.ts'
import { createCollector, waitUntil } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'

expectNothingLeft()

/** As held and as passed on: what a caller sees is the same. */
describe.each([
  ['held', {}],
  ['passed on', { holdLimit: 0 }],
])('an answer that is %s', (_name, options: Partial<ServiceOptions>) => {
  const serve = (handler: NodeHandler): ReturnType<typeof openService> =>
    openService(handler, options)
  const answering = (body: string | Buffer, headers = {}): ReturnType<typeof openService> =>
    serve((_req, res) => void res.writeHead(200, { ...headers }).end(body))

  test('text, json, bytes, arrayBuffer, blob', async () => {
    const { client } = answering('\ufeff{"a":"é"}', { 'content-type': 'text/x' })
    const get = () => client.get('http://calc/')
    expect(await (await get()).text()).toBe('{"a":"é"}')
    expect(await (await get()).json()).toEqual({ a: 'é' })
    const bytes = await (await get()).bytes()
    expect([bytes.constructor, Buffer.from(bytes).toString()]).toEqual([
      Uint8Array,
      '\ufeff{"a":"é"}',
    ])
    expect((await (await get()).arrayBuffer()).byteLength).toBe(bytes.length)
    const blob = await (await get()).blob()
    expect([blob.type, blob.size]).toEqual(['text/x', bytes.length])
  })

  test('formData', async () => {
    const { client } = answering('a=1&b=%C3%A9', {
      'content-type': 'application/x-www-form-urlencoded',
    })
    const form = await (await client.get('http://calc/')).formData()
    expect([...form]).toEqual([
      ['a', '1'],
      ['b', 'é'],
    ])
  })

  test('json that is none; a body that was read', async () => {
    const { client } = answering('{')
    const res = await client.get('http://calc/')
    expect(res.bodyUsed).toBe(false)
    await expect(res.json()).rejects.toThrow(SyntaxError)
    expect(res.bodyUsed).toBe(true)
    await expect(res.text()).rejects.toMatchObject({ code: 'MANYHOST_BODY_USED' })
    expect(() => res.clone()).toThrow('read already')
  })

  test('a body that was read as a stream, or in part, is used', async () => {
    const { client } = answering('x'.repeat(200_000))
    const res = await client.get('http://calc/')
    const { body } = res
    expect(res.bodyUsed).toBe(false)
    let count = 0
    for await (const chunk of body as never as AsyncIterable<Uint8Array>) count += chunk.length
    expect([count, res.bodyUsed, res.body === body]).toEqual([200_000, true, true])
    await expect(res.text()).rejects.toMatchObject({ code: 'MANYHOST_BODY_USED' })
  })

  test('clone: both are whole, whichever is read first', async () => {
    const { client } = answering('x'.repeat(200_000))
    const res = await client.get('http://calc/')
    const copy = res.clone()
    const second = copy.clone()
    expect((await res.text()).length).toBe(200_000)
    expect([res.bodyUsed, copy.bodyUsed]).toEqual([true, false])
    expect((await copy.bytes()).length).toBe(200_000)
    expect((await second.text()).length).toBe(200_000)
    expect([copy.status, copy.url, copy.headers.get('content-length')]).toEqual([
      200,
      'http://calc/',
      res.headers.get('content-length'),
    ])
  })

  test('status, text, headers in order and case, cookies', async () => {
    const { client } = await openRawService(
      (socket) =>
        socket.write(
          'HTTP/1.1 299 Odd One\r\nX-B: 1\r\nx-a: \xe9\r\nSet-Cookie: a=1, b\r\nX-B: 2\r\nset-cookie: c=2\r\nContent-Length: 0\r\n\r\n',
          'latin1',
        ),
      options,
    )
    const res = await client.get('http://calc/p?q#f')
    expect([res.status, res.statusText, res.ok, res.redirected, res.url]).toEqual([
      299,
      'Odd One',
      true,
      false,
      'http://calc/p?q#f',
    ])
    expect(res.rawHeaders).toEqual([
      ['X-B', '1'],
      ['x-a', 'é'],
      ['Set-Cookie', 'a=1, b'],
      ['X-B', '2'],
      ['set-cookie', 'c=2'],
      ['Content-Length', '0'],
    ])
    expect(res.headers.get('x-b')).toBe('1, 2')
    expect(res.headers.getSetCookie()).toEqual(['a=1, b', 'c=2'])
    expect(await res.text()).toBe('')
  })

  test('raiseForStatus leaves the body to be read', async () => {
    const { client } = serve((req, res) => {
      res.writeHead(Number(req.url?.slice(1))).end('why')
    })
    const ok = await client.get('http://calc/399')
    expect(ok.raiseForStatus()).toBe(ok)
    for (const [status, retryable] of [
      [400, false],
      [429, true],
      [500, true],
    ] as const) {
      const res = await client.get(`http://calc/${status}`)
      let error: unknown
      try {
        res.raiseForStatus()
      } catch (thrown) {
        error = thrown
      }
      expect(error).toMatchObject({ code: 'MANYHOST_BAD_STATUS', status, retryable })
      expect(await res.text()).toBe('why')
    }
  })

  test('no body where HTTP has none', async () => {
    const { client, session } = serve((req, res) => {
      res.writeHead(Number(req.url?.slice(1)), { 'x-y': 'z' }).end()
    })
    for (const status of [204, 304]) {
      const res = await client.get(`http://calc/${status}`)
      expect([res.status, res.body, await res.text()]).toEqual([status, null, ''])
    }
    const head = await client.head('http://calc/200')
    expect([head.headers.get('x-y'), await head.text()]).toEqual(['z', ''])
    await waitUntil(() => session.cluster('http://calc').inFlight === 0)
  })
})

test('trailers and timing', async () => {
  const { client } = openService((_req, res) => {
    res.writeHead(200, { trailer: 'x-sum' })
    res.write('a')
    res.addTrailers({ 'x-sum': '7' })
    res.end()
  })
  const res = await client.get('http://calc/')
  await res.text()
  expect(res.trailers?.get('x-sum')).toBe('7')
  expect(res.timing).toMatchObject({ attempts: [{ attempt: 1 }] })
  expect(res.timing?.instance).toBe(res.timing?.attempts[0]?.instance)
})

test('cancelling a body ends the request and frees the place', async () => {
  const closed: string[] = []
  const { client, session } = openService((_req, res) => {
    res.write('x'.repeat(1000))
    res.once('close', () => closed.push('closed'))
  })
  const res = await client.get('http://calc/')
  await res.body?.cancel('enough')
  await waitUntil(() => closed.length === 1 && session.cluster('http://calc').inFlight === 0)
})

test('a stream outlives the response that it is from; a dropped answer gives its place back', async () => {
  const gc = await createCollector()
  let write = (_text?: string): void => {}
  const { client, session } = openService(
    (_req, res) => {
      res.write('first')
      write = (text) => (text ? res.write(text) : res.end())
    },
    { concurrency: 4 },
  )
  const reader = await (async () => (await client.get('http://calc/')).body?.getReader())()
  await reader?.read()
  for (let i = 0; i < 20; i++) {
    gc()
    await turn()
  }
  write('second')
  expect(Buffer.from((await reader?.read())?.value as Uint8Array).toString()).toBe('second')
  write()
  expect((await reader?.read())?.done).toBe(true)
  await (async () => void (await client.get('http://calc/')).status)()
  await (async () => void (await client.get('http://calc/')).body)()
  await waitUntil(() => {
    gc()
    return session.cluster('http://calc').inFlight === 0
  })
})

/**
 * A body that was read already has no chunk and no error, and would be sent as an empty one. The service has no instance
 * where nothing is said otherwise: what is refused, is refused before anything is sent.
 */
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { get as httpGet } from 'node:http'
import { PassThrough, Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { finished } from 'node:stream/promises'
import { request } from 'undici'
import { describe, expect, test } from 'vitest'
import type { Body } from '../../src/index.ts'
import { echo } from '../fakes/echo.ts'
import { openRawServer, openService } from '../fakes/service.ts'
import { rejectionOf, waitUntil } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'

expectNothingLeft()

const webStream = (): ReadableStream => new Blob(['abc']).stream()

/** A stream of Node that was read to its end, and is not destroyed by that. */
async function readToItsEnd(options: object = {}): Promise<Readable> {
  const stream = new PassThrough(options)
  stream.end('abc')
  await text(stream)
  return stream
}

async function answerOfHttp(): Promise<Readable> {
  const { url } = await openRawServer((socket) => {
    socket.end('HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc')
  })
  return new Promise((resolve, reject) => httpGet(url, resolve).on('error', reject))
}

const USED: Record<string, () => Promise<unknown>> = {
  'a stream of Node, read to its end': () => readToItsEnd(),
  'one that is not destroyed by its end': () => readToItsEnd({ autoDestroy: false }),
  'one that was read in part': async () => {
    const stream = Readable.from(['abc', 'def'])
    for await (const _ of stream.iterator({ destroyOnReturn: false })) break
    return stream
  },
  'one that flowed away': async () => {
    const stream = Readable.from(['abc'])
    stream.resume()
    await once(stream, 'end')
    return stream
  },
  'one that was destroyed': async () => Readable.from(['abc']).destroy(),
  'one that failed': async () => {
    const stream = Readable.from(['abc'])
    stream.on('error', () => undefined).destroy(new Error('broken'))
    await finished(stream).catch(() => undefined)
    return stream
  },
  'a file that was read': async () => {
    const stream = createReadStream('package.json')
    await text(stream)
    return stream
  },
  'an answer of node:http that was read': async () => {
    const answer = await answerOfHttp()
    await text(answer)
    return answer
  },
  'a web stream, read to its end': async () => {
    const stream = webStream()
    await new Response(stream).text()
    return stream
  },
  'one that was read in part, and let go': async () => {
    const stream = webStream()
    const reader = stream.getReader()
    await reader.read()
    reader.releaseLock()
    return stream
  },
  'one that is locked': async () => {
    const stream = webStream()
    stream.getReader()
    return stream
  },
  'one that was split': async () => {
    const stream = webStream()
    stream.tee()
    return stream
  },
  'one that was cancelled': async () => {
    const stream = webStream()
    await stream.cancel()
    return stream
  },
  'a web stream that failed': async () =>
    new ReadableStream({ start: (controller) => controller.error(new Error('broken')) }),
  'the body of an answer of fetch, read': async () => {
    const response = new Response('abc')
    await response.text()
    return response.body
  },
  'the body of an answer of the client, read': async () => {
    const { client } = openService(echo)
    const answer = await client.get('http://calc/')
    await answer.text()
    return answer.body
  },
  "the body of an answer of undici's request, read": async () => {
    const { session } = openService(echo)
    const { body } = await request('http://calc/', { dispatcher: session.dispatcher() })
    await body.text()
    return body
  },
}

describe('a body that was read already', () => {
  for (const [name, make] of Object.entries(USED)) {
    test(name, async () => {
      const { session, client } = openService(echo, { initSize: 0 })
      const body = (await make()) as Body
      for (const resend of ['always', 'never'] as const) {
        const error = await rejectionOf(client.post('http://calc/', { body, resend }))
        expect(error).toMatchObject({ code: 'MANYHOST_BODY_FAILED', status: 400, retryable: false })
        expect(error.message).toMatch(/it is (a stream|an iterator) that .*; give a new body, or /)
      }
      expect(session.cluster('http://calc').stats().arrivals).toBe(0)
      const dispatcher = session.dispatcher()
      const options = { dispatcher, method: 'POST', body: body as Readable } as const
      // undici looks at some of them itself.
      await rejectionOf(request('http://calc/', options))
      expect(session.cluster('http://calc').stats().arrivals).toBe(0)
    })
  }

  test('to the network', async () => {
    const { url, connections } = await openRawServer((socket) => socket.destroy())
    const { client } = openService(echo, { initSize: 0 })
    const error = await rejectionOf(client.post(url, { body: await readToItsEnd() }))
    expect([error.code, connections()]).toEqual(['MANYHOST_BODY_FAILED', 0])
  })
})

async function* generated(): AsyncGenerator<string> {
  yield 'abc'
}

function* generatedAtOnce(): Generator<string> {
  yield 'abc'
}

describe('a body that a request of ours has read', () => {
  const sources: Record<string, () => unknown> = {
    'an async generator': generated,
    'a generator': generatedAtOnce,
    'an iterator of an array': () => ['abc'].values(),
    'a stream of Node': () => Readable.from(['abc']),
    'a web stream': webStream,
  }
  for (const [name, make] of Object.entries(sources)) {
    test(`${name}: kept or not, by client and dispatcher`, async () => {
      const { session, client } = openService(echo)
      const dispatcher = session.dispatcher()
      for (const resend of ['always', 'never'] as const) {
        const body = make() as Body
        const answer = await client.post('http://calc/', { body, resend })
        expect((await answer.json()).body).toBe('abc')
        const before = session.cluster('http://calc').stats().arrivals
        expect((await rejectionOf(client.post('http://calc/', { body }))).code).toBe(
          'MANYHOST_BODY_FAILED',
        )
        await rejectionOf(
          request('http://calc/', { dispatcher, method: 'POST', body: body as Readable }),
        )
        expect(session.cluster('http://calc').stats().arrivals).toBe(before)
      }
    })

    test(`${name}: given to two requests at once, one is sent whole and the other fails`, async () => {
      const { session, client } = openService(echo, { concurrency: 2 })
      const body = make() as Body
      const both = [0, 1].map(() => client.post('http://calc/', { body }))
      const ends = await Promise.allSettled(both)
      const good = ends.flatMap((end) => (end.status === 'fulfilled' ? [end.value] : []))
      const bad = ends.flatMap((end) => (end.status === 'rejected' ? [end.reason.code] : []))
      expect(await Promise.all(good.map(async (one) => (await one.json()).body))).toEqual(['abc'])
      expect(bad).toEqual(['MANYHOST_BODY_FAILED'])
      await waitUntil(() => session.cluster('http://calc').inFlight === 0)
    })
  }

  test('a Request, twice', async () => {
    const { client } = openService(echo)
    const once = new Request('http://calc/', { method: 'POST', body: 'abc' })
    expect((await (await client.fetch(once)).json()).body).toBe('abc')
    expect((await rejectionOf(client.fetch(once))).code).toBe('MANYHOST_BODY_FAILED')
  })

  test('a function that gives the same stream again fails, and is not sent empty', async () => {
    const { client } = openService(echo)
    const stream = Readable.from(['abc'])
    const body = (): Readable => stream
    expect((await (await client.post('http://calc/', { body })).json()).body).toBe('abc')
    expect((await rejectionOf(client.post('http://calc/', { body }))).code).toBe(
      'MANYHOST_BODY_FAILED',
    )
  })
})

describe('a function that makes a body', () => {
  const good: Record<string, () => unknown> = {
    text: () => 'abc',
    bytes: () => Buffer.from('abc'),
    'an ArrayBuffer': () => new Uint8Array([97, 98, 99]).buffer,
    'a blob': () => new Blob(['abc']),
    parameters: () => new URLSearchParams({ abc: '' }),
    'an array, later': async () => ['a', 'bc'],
    'an iterator': () => ['abc'].values(),
  }
  for (const [name, body] of Object.entries(good)) {
    test(name, async () => {
      const { client } = openService(echo)
      const answer = await client.post('http://calc/', { body: body as Body })
      expect((await answer.json()).body).toMatch(/^abc=?$/)
    })
  }

  const bad: Record<string, () => unknown> = {
    'a number': () => 5,
    'an object': () => ({}),
    'chunks that are none': () => [1, {}],
    'nothing but an error': () => {
      throw new Error('mine')
    },
    'a promise of an error': () => Promise.reject(new Error('mine')),
  }
  for (const [name, body] of Object.entries(bad)) {
    test(`${name}: fails, and its slot is free again`, async () => {
      const { session, client } = openService(echo)
      const error = await rejectionOf(client.post('http://calc/', { body: body as Body }))
      expect(error.code).toBe('MANYHOST_BODY_FAILED')
      await waitUntil(() => session.cluster('http://calc').inFlight === 0)
      expect((await client.get('http://calc/')).status).toBe(200)
    })
  }
})

describe('what may be sent again and again', () => {
  const bodies: Record<string, unknown> = {
    text: 'abc',
    bytes: Buffer.from('abc'),
    'an array': ['a', 'bc'],
    'a set': new Set(['abc']),
    'a blob': new Blob(['abc']),
    'an iterable of its own': { [Symbol.asyncIterator]: generated },
    'a function': () => Readable.from(['abc']),
    'empty streams that nobody has read': undefined,
  }
  for (const [name, body] of Object.entries(bodies)) {
    test(name, async () => {
      const { client } = openService(echo)
      for (let i = 0; i < 2; i++) {
        const given = body === undefined ? Readable.from([]) : body
        const answer = await client.post('http://calc/', { body: given as Body })
        expect((await answer.json()).body).toBe(body === undefined ? '' : 'abc')
      }
    })
  }

  test('a generator that no request has read yet, though one with it was refused', async () => {
    const { client } = openService(echo)
    const body = generated()
    const headers = { 'keep-alive': 'x' }
    expect((await rejectionOf(client.post('http://calc/', { body, headers }))).code).toBe(
      'MANYHOST_INVALID_REQUEST',
    )
    expect((await (await client.post('http://calc/', { body })).json()).body).toBe('abc')
  })
})

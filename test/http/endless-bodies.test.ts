/** Bodies of answers that are for nobody: a redirect's, and that of an answer which hands the request back. */
import { describe, expect, test } from 'vitest'
import { useFalseClock } from '../clock.ts'
import { openRawServer, openRawService, openService } from '../fakes/service.ts'
import { waitUntil } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'

expectNothingLeft()

const CHUNKED = 'transfer-encoding: chunked\r\n\r\n'
const END = 'HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nend'

/** How a body goes on after its head, with the socket to write it. */
const BODIES = {
  'that never ends': {
    framing: CHUNKED,
    write: (write: (text: string) => void) => write('2\r\nhi\r\n'),
  },
  'that is shorter than its length, and does not go on': {
    framing: 'content-length: 1000\r\n\r\n',
    write: (write: (text: string) => void) => write('hi'),
  },
  'that has a length, and no byte of it comes': {
    framing: 'content-length: 1\r\n\r\n',
    write: () => undefined,
  },
  'that is long': {
    framing: CHUNKED,
    write: (write: (text: string) => void) => {
      for (let i = 0; i < 100; i++) write(`10000\r\n${'x'.repeat(0x10000)}\r\n`)
    },
  },
}

describe('a redirect', () => {
  for (const [name, body] of Object.entries(BODIES)) {
    test.each([
      ['is followed', {}],
      ['is an error', { redirect: 'error' }],
      ['is one too many', { maxRedirects: 0 }],
    ] as const)(`with a body ${name} gives its slot back: it %s`, async (_, options) => {
      const clock = useFalseClock()
      const { client, session } = await openRawService((socket, head) => {
        if (head.startsWith('GET /end')) return void socket.write(END)
        socket.write(`HTTP/1.1 302 F\r\nlocation: /end\r\n${body.framing}`)
        body.write((text) => socket.write(text))
      })
      const outcome = client.get('http://calc/', options).then(
        (res) => res.text(),
        (error) => error.code,
      )
      let seen: unknown
      void outcome.then((text) => {
        seen = text
      })
      await clock.passUntil(20, () => seen !== undefined)
      expect(seen).toBe(
        'redirect' in options || 'maxRedirects' in options ? 'MANYHOST_REDIRECT' : 'end',
      )
      await clock.passUntil(20, () => session.cluster('http://calc').inFlight === 0)
    })
  }

  for (const [name, body] of Object.entries(BODIES)) {
    test.each([
      ['is followed', 'follow', 'end'],
      ['is an error', 'error', 'TypeError'],
    ] as const)(
      `with a body ${name} gives its slot back to fetch: it %s`,
      async (_, mode, wanted) => {
        const clock = useFalseClock()
        const { session } = await openRawService(
          (socket, head) => {
            if (head.startsWith('GET /end')) return void socket.write(END)
            socket.write(`HTTP/1.1 302 F\r\nlocation: /end\r\n${body.framing}`)
            body.write((text) => socket.write(text))
          },
          // With one slot, the redirect is followed when the slot of its answer is free again.
          { concurrency: 1 },
        )
        let seen: unknown
        void session.fetch('http://calc/', { redirect: mode }).then(
          async (res) => {
            seen = await res.text()
          },
          (error) => {
            seen = error.name
          },
        )
        await clock.passUntil(20, () => seen !== undefined)
        expect(seen).toBe(wanted)
        await clock.passUntil(20, () => session.cluster('http://calc').inFlight === 0)
      },
    )
  }

  test('with redirect: manual, fetch has the redirect and its body', async () => {
    const { session } = await openRawService((socket) =>
      socket.write('HTTP/1.1 302 F\r\nlocation: /end\r\ncontent-length: 2\r\n\r\nhi'),
    )
    const answer = await session.fetch('http://calc/', { redirect: 'manual' })
    expect([answer.status, await answer.text()]).toEqual([302, 'hi'])
  })

  test('to and from outside, with bodies that never end', async () => {
    const clock = useFalseClock()
    const { url } = await openRawServer((socket) =>
      socket.write(`HTTP/1.1 302 F\r\nlocation: http://calc/end\r\n${CHUNKED}2\r\nhi\r\n`),
    )
    const { client, session } = openService((_, res) => res.end('end'))
    let seen: unknown
    void client.get(url).then(async (res) => {
      seen = await res.text()
    })
    await clock.passUntil(20, () => seen === 'end')
    expect(session.cluster('http://calc').inFlight).toBe(0)
  })

  test('with a length is passed on as soon as its head is there', async () => {
    const { session } = await openRawService((socket) =>
      socket.write('HTTP/1.1 302 F\r\nlocation: /end\r\ncontent-length: 1000\r\n\r\nhi'),
    )
    const dispatcher = session.dispatcher()
    const { statusCode, body } = await dispatcher.request({
      origin: 'http://calc',
      path: '/',
      method: 'GET',
    })
    expect(statusCode).toBe(302)
    body.on('error', () => undefined).destroy()
    await waitUntil(() => session.cluster('http://calc').inFlight === 0)
  })

  test('whose body breaks off is followed, and the request is not sent again', async () => {
    const heads: string[] = []
    const { client } = await openRawService((socket, head) => {
      heads.push(head.slice(0, 6))
      if (head.startsWith('GET /end')) return void socket.write(END)
      socket.end('HTTP/1.1 303 S\r\nlocation: /end\r\ncontent-length: 1000\r\n\r\nhi')
    })
    const answer = await client.post('http://calc/', { body: '' })
    expect(await answer.text()).toBe('end')
    expect(heads).toEqual(['POST /', 'GET /e'])
  })

  test('with a short body keeps its connection', async () => {
    const { client, connections } = await openRawService((socket, head) =>
      socket.write(
        head.startsWith('GET /end')
          ? END
          : `HTTP/1.1 302 F\r\nlocation: /end\r\n${CHUNKED}2\r\nhi\r\n0\r\n\r\n`,
      ),
    )
    await (await client.get('http://calc/end')).text()
    const before = connections()
    for (let i = 0; i < 5; i++) expect(await (await client.get('http://calc/')).text()).toBe('end')
    expect(connections()).toBeLessThanOrEqual(before + 1)
  })
})

describe('a 503 that hands the request back', () => {
  for (const [name, body] of Object.entries(BODIES)) {
    test(`with a body ${name} goes elsewhere, and its slot comes back`, async () => {
      const clock = useFalseClock()
      let count = 0
      const { client, session } = await openRawService((socket) => {
        if (++count > 1) return void socket.write(END)
        socket.write(`HTTP/1.1 503 U\r\nx-manyhost-return: 1\r\n${body.framing}`)
        body.write((text) => socket.write(text))
      })
      let seen: unknown
      void client.post('http://calc/', { body: 'x', resend: 'never' }).then(async (res) => {
        seen = await res.text()
      })
      await clock.passUntil(20, () => seen === 'end')
      await clock.passUntil(20, () => session.cluster('http://calc').inFlight === 0)
      expect(count).toBe(2)
    })
  }

  test('that its caller gives up meanwhile leaves no slot behind', async () => {
    const { client, session } = await openRawService((socket) =>
      socket.write(`HTTP/1.1 503 U\r\nx-manyhost-return: 1\r\n${CHUNKED}2\r\nhi\r\n`),
    )
    const given = new AbortController()
    const answer = client.get('http://calc/', { signal: given.signal })
    await waitUntil(() => session.cluster('http://calc').inFlight === 1)
    given.abort()
    await expect(answer).rejects.toMatchObject({ code: 'MANYHOST_ABORTED' })
    await waitUntil(() => session.cluster('http://calc').inFlight === 0)
  })
})

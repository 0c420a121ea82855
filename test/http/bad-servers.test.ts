import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { setImmediate as turn } from 'node:timers/promises'
import { request } from 'undici'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { patchSocket } from '../../src/core/connector.ts'
import type { Response } from '../../src/index.ts'
import { openRawService, openService } from '../fakes/service.ts'
import { waitUntil } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'

expectNothingLeft()

/** Read as slowly as a slow reader does: a few turns of the loop between two chunks. */
async function slowly(body: AsyncIterable<Uint8Array>): Promise<number> {
  let count = 0
  for await (const chunk of body) {
    count += chunk.length
    for (let i = 0; i < 20; i++) await turn()
  }
  return count
}

const MEGABYTE = Buffer.alloc(1 << 20, 'x')

describe('a connection that ends under a slow reader (nodejs/undici#5360)', () => {
  const heads = {
    'Connection: close, no length': 'Connection: close\r\n',
    'Connection: close, a length': `Connection: close\r\nContent-Length: ${MEGABYTE.length}\r\n`,
    'keep-alive, a length': `Content-Length: ${MEGABYTE.length}\r\n`,
  }
  for (const [name, head] of Object.entries(heads)) {
    test(name, async () => {
      const { client, session, url } = await openRawService(
        (socket) => {
          socket.write(`HTTP/1.1 200 OK\r\n${head}\r\n`)
          socket.end(MEGABYTE)
        },
        { holdLimit: 0 },
      )
      const dispatcher = session.dispatcher()
      for (const target of ['http://calc/', url]) {
        for (let round = 0; round < 3; round++) {
          const one = await client.get(target)
          expect(await slowly(one.body as never)).toBe(MEGABYTE.length)
          const other = await request(target, { dispatcher })
          expect(await slowly(other.body)).toBe(MEGABYTE.length)
        }
      }
    })
  }

  test('a reset is no end: nothing is cut short silently', async () => {
    const { client } = await openRawService((socket) => {
      socket.write('HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n')
      socket.write(MEGABYTE, () => socket.resetAndDestroy())
    })
    for (let round = 0; round < 3; round++) {
      const { body } = await client.get('http://calc/')
      await expect(slowly(body as never)).rejects.toMatchObject({
        code: 'MANYHOST_RESPONSE_INTERRUPTED',
      })
    }
  })

  test('an end behind ours is no reset, though there is no peer any more', async () => {
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      socket.resume().on('end', () => socket.end('bye'))
    })
    await once(server.listen(0, '127.0.0.1'), 'listening')
    const { port } = server.address() as AddressInfo
    const socket = patchSocket(connect({ port, host: '127.0.0.1', allowHalfOpen: true }))
    socket.end('x')
    expect(String(Buffer.concat(await socket.toArray()))).toBe('bye')
    server.close()
  })

  test('an in-process instance that is killed under a slow reader', async () => {
    const { client, provider } = openService((_req, res) => {
      res.writeHead(200, { connection: 'close' })
      res.write(MEGABYTE)
    })
    const { body } = await client.get('http://calc/')
    const reader = (body as ReadableStream<Uint8Array>).getReader()
    await reader.read()
    provider.instances[0]?.kill()
    await expect(
      (async () => {
        while (!(await reader.read()).done);
      })(),
    ).rejects.toMatchObject({ code: 'MANYHOST_RESPONSE_INTERRUPTED' })
  })
})

describe('servers that break the protocol', () => {
  const bad: Record<string, [answer: string, reason: string]> = {
    'a head that stops': ['HTTP/1.1 200 OK\r\nContent-', 'connection'],
    'nothing at all': ['', 'connection'],
    'a body too short': ['HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345', 'connection'],
    'a short body and Connection: close': [
      'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\n12345',
      'connection',
    ],
  }
  for (const [name, [answer, reason]] of Object.entries(bad)) {
    test(`${name}: resent, and then a poison request with its causes`, async () => {
      const { client, connections } = await openRawService(
        (socket) => socket.end(answer, 'latin1'),
        {
          maxAttempts: 2,
        },
      )
      const error = await client.get('http://calc/x').catch((thrown: unknown) => thrown)
      expect(error).toMatchObject({
        code: 'MANYHOST_ATTEMPTS_EXHAUSTED',
        status: 502,
        attempts: [
          { attempt: 1, reason },
          { attempt: 2, reason },
        ],
      })
      expect(connections()).toBeGreaterThanOrEqual(2)
    })
  }

  const refused: Record<string, string> = {
    garbage: '\x00\x01garbage\r\n\r\n',
    'a head too long': `HTTP/1.1 200 OK\r\nX: ${'x'.repeat(100_000)}\r\n\r\n`,
    'two lengths': 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12',
  }
  for (const [name, answer] of Object.entries(refused)) {
    test(`${name}: refused, and not sent again`, async () => {
      const { client, session } = await openRawService((socket) => socket.end(answer, 'latin1'))
      await expect(client.get('http://calc/x')).rejects.toMatchObject({
        code: 'MANYHOST_BAD_RESPONSE',
        status: 502,
        attempts: [{ attempt: 1, reason: 'protocol' }],
      })
      expect(session.cluster('http://calc').stats().resends).toBe(0)
    })
  }

  test('a body longer than its length: the answer is right, the connection is not used again', async () => {
    const { client } = await openRawService((socket) =>
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokGARBAGE'),
    )
    for (let i = 0; i < 3; i++) expect(await (await client.get('http://calc/')).text()).toBe('ok')
  })

  test('chunks that break off after the head was passed on', async () => {
    const { client } = await openRawService((socket) =>
      socket.end('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nwo'),
    )
    const res = await client.get('http://calc/')
    await expect(res.text()).rejects.toMatchObject({
      code: 'MANYHOST_RESPONSE_INTERRUPTED',
      service: 'http://calc',
    })
  })

  test('a server that hangs: the attempt ends by its time limit, the request goes elsewhere', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    onTestFinished(() => void vi.useRealTimers())
    let count = 0
    const { client } = await openRawService(
      (socket) => {
        if (++count > 1) socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
      },
      { attemptTimeout: 50 },
    )
    let res: Response | undefined
    void client.get('http://calc/').then((answer) => {
      res = answer
    })
    // Time passes only as turns do.
    await waitUntil(() => {
      vi.advanceTimersByTime(1)
      return res !== undefined
    })
    expect(await res?.text()).toBe('ok')
    expect(res?.timing?.attempts.map(({ reason }) => reason)).toEqual([
      'attempt-timeout',
      undefined,
    ])
  })

  test('an upgrade that nobody asked for', async () => {
    const { client } = await openRawService((socket) =>
      socket.write('HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n'),
    )
    await expect(client.get('http://calc/')).rejects.toMatchObject({
      code: 'MANYHOST_BAD_RESPONSE',
      attempts: [{ attempt: 1 }],
    })
  })
})

test('an answer before its request is whole, and then the end', async () => {
  const { client, session } = await openRawService((socket) =>
    socket.end('HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno'),
  )
  const res = await client.post('http://calc/', { body: MEGABYTE })
  expect([res.status, await res.text()]).toEqual([413, 'no'])
  await waitUntil(() => session.cluster('http://calc').inFlight === 0)
})

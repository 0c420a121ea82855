/**
 * Requests of clients that the gateway can read and no instance can be sent, or only just: each is answered, none keeps a
 * slot, and the next plain one is served by an instance that has one slot.
 */
import { once } from 'node:events'
import http2 from 'node:http2'
import { connect } from 'node:net'
import { describe, expect, onTestFinished, test } from 'vitest'
import { createGateway } from '../../src/gateway/index.ts'
import { echo } from '../fakes/echo.ts'
import { openService } from '../fakes/service.ts'
import { waitUntil } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'

expectNothingLeft()

async function setUp() {
  const { session, client } = openService(echo)
  const gateway = await createGateway(session, { listen: '127.0.0.1:0' })
  onTestFinished(() => gateway.close())
  const cluster = session.cluster('http://calc')
  return {
    url: gateway.url,
    /** Nothing is left of the request, and the instance serves others. */
    async isWell(): Promise<void> {
      await waitUntil(() => cluster.inFlight === 0 && cluster.requestQueue.isEmpty)
      for (let i = 0; i < 3; i++) expect((await client.get('http://calc/')).status).toBe(200)
      expect(cluster.stats()).toMatchObject({ ejections: 0, resends: 0 })
    },
  }
}

/** Status of the answer to these bytes; 0 if the connection ends without one. */
async function statusOf(url: string, head: string): Promise<number> {
  const { port } = new URL(url)
  const socket = connect(Number(port), '127.0.0.1')
  onTestFinished(() => void socket.destroy())
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  socket.write(Buffer.from(head, 'latin1'))
  let got = ''
  const status = /^HTTP\/1\.1 ([2-5]\d\d)/
  for await (const chunk of socket) {
    got += String(chunk)
    if (status.test(got)) break
  }
  return Number(status.exec(got)?.[1] ?? 0)
}

const LINES: Record<string, string> = {
  'a path with bytes above ASCII': 'GET /calc/\xe9\xff HTTP/1.1',
  'a path with a DEL': 'GET /calc/\x7f HTTP/1.1',
  'a path with a tab': 'GET /calc/\t HTTP/1.1',
  'a path with odd marks': 'GET /calc/"<>^`{|}\\ HTTP/1.1',
  'a path with a fragment': 'GET /calc/#a HTTP/1.1',
  'an absolute path': 'GET http://x/calc/ HTTP/1.1',
  'a method of its own': 'PURGE /calc/ HTTP/1.1',
  'a method of nobody': 'FOO /calc/ HTTP/1.1',
}

const FIELDS: Record<string, string> = {
  'connection of no tokens': 'Connection: a b, (c)',
  'an empty connection': 'Connection: ,',
  'keep-alive': 'Keep-Alive: timeout=5',
  'an upgrade alone': 'Upgrade: a b',
  'an upgrade with odd bytes': 'Connection: upgrade\r\nUpgrade: \xe9',
  'an upgrade of no token': 'Connection: upgrade\r\nUpgrade: a b',
  'expect of something': 'Expect: the-best',
  'an id above ASCII': 'X-Request-Id: \xe9',
  'an empty id': 'X-Request-Id: ',
  'a key above ASCII': 'Idempotency-Key: \xe9',
  'an empty key': 'Idempotency-Key: ',
  'two hosts': 'Host: y',
  'a DEL': 'A: \x7f',
  'a control byte': 'A: \x01',
  'a newline alone': 'A: 1\nB: 2',
  'a folded value': 'A: 1\r\n 2',
  'a length that is none': 'Content-Length: abc',
  'two lengths': 'Content-Length: 1\r\nContent-Length: 1',
  'a length and chunks': 'Content-Length: 1\r\nTransfer-Encoding: chunked',
  'a coding that is none': 'Transfer-Encoding: a',
  'a name with a space': 'A B: 1',
  'no name': ': 1',
  'te, trailer and names of all objects':
    'TE: trailers\r\nTrailer: x\r\n__proto__: 1\r\nconstructor: 2',
}

describe('over HTTP/1.1', () => {
  for (const [name, line] of Object.entries(LINES)) {
    test(name, async () => {
      const { url, isWell } = await setUp()
      expect([200, 400, 405, 501]).toContain(await statusOf(url, `${line}\r\nHost: x\r\n\r\n`))
      await isWell()
    })
  }
  for (const [name, field] of Object.entries(FIELDS)) {
    for (const method of ['GET', 'POST']) {
      test(`${name}, ${method}`, async () => {
        const { url, isWell } = await setUp()
        const head = `${method} /calc/ HTTP/1.1\r\nHost: x\r\n${field}\r\n\r\n`
        expect([200, 400, 417, 501]).toContain(await statusOf(url, head))
        await isWell()
      })
    }
  }
})

const PSEUDO: Record<string, Record<string, string>> = {
  'a path with a space': { ':path': '/calc/a b' },
  'a path with bytes above ASCII': { ':path': '/calc/\xe9' },
  'a path with a newline': { ':path': '/calc/\n' },
  'a path without a slash': { ':path': 'calc' },
  'an empty path': { ':path': '' },
  'a method of two words': { ':method': 'A B' },
  'an empty method': { ':method': '' },
  'a method above ASCII': { ':method': '\xe9' },
  'a value above ASCII': { a: '\xe9' },
  'a DEL': { a: '\x7f' },
  'two hosts': { ':authority': 'x', host: 'x' },
  expect: { expect: 'the-best' },
  'a length that is none': { 'content-length': 'abc' },
  'an empty key': { 'idempotency-key': '' },
  'an id above ASCII': { 'x-request-id': '\xe9' },
}

describe('over HTTP/2', () => {
  for (const [name, fields] of Object.entries(PSEUDO)) {
    test(name, async () => {
      const { url, isWell } = await setUp()
      const client = http2.connect(url)
      onTestFinished(() => client.destroy())
      client.on('error', () => undefined)
      const status = await new Promise<number>((resolve) => {
        let stream: http2.ClientHttp2Stream
        try {
          stream = client.request({ ':path': '/calc/', ...fields })
        } catch {
          // Node's own client does not send it.
          return resolve(0)
        }
        stream.on('response', (head) => resolve(Number(head[':status'])))
        stream.on('error', () => resolve(0))
        stream.on('close', () => resolve(0))
        stream.resume().end()
      })
      // 0: the stream was refused as such.
      expect([0, 200, 400, 404, 405, 417, 501]).toContain(status)
      await isWell()
    })
  }
})

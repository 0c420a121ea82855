/**
 * Uploads that are answered before they are sent, by an instance that goes then: the answer is delivered, and the request is
 * executed once. The instances are processes, so that the kernel says how their connections end.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { Readable } from 'node:stream'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { processes } from '../../providers/process/index.ts'
import { fixed } from '../../providers/static.ts'
import { createGateway, type Gateway } from '../../src/gateway/index.ts'
import { Session } from '../../src/index.ts'
import { openRawService } from '../fakes/service.ts'
import { waitUntil } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'

expectNothingLeft()

const script = resolve('test/fakes/early.mjs')
const ROUNDS = 2

const BODIES: Record<string, () => unknown> = {
  small: () => 'x'.repeat(1_000),
  'of 4 MB': () => Buffer.alloc(1 << 22) as never,
  'a stream': () => Readable.from(Array.from({ length: 64 }, () => Buffer.alloc(1 << 16))),
  'a stream without end': () =>
    Readable.from(
      (function* () {
        for (;;) yield Buffer.alloc(1 << 16)
      })(),
    ),
  'made for each attempt': () => () => Readable.from([Buffer.alloc(1 << 21)]),
}

interface World {
  readonly session: Session
  readonly gateway: Gateway
  readonly close: () => Promise<void>
}

async function open(session: Session, more: () => void = () => undefined): Promise<World> {
  const gateway = await createGateway(session, { listen: '127.0.0.1:0', drainTimeout: 50 })
  const close = async (): Promise<void> => {
    await gateway.close()
    await session.close({ force: true })
    more()
  }
  return { session, gateway, close }
}

/** A server of its own at an address that the session is told. */
async function outside(env: Record<string, string>): Promise<World> {
  const child = spawn(process.execPath, [script], { env: { ...process.env, ...env } })
  const [url] = await once(child.stdout.setEncoding('utf8'), 'data')
  const session = new Session({ provider: fixed({ urls: [String(url).trim()] }) })
  session.startup({ url: 'http://calc', concurrency: 2 })
  return open(session, () => child.kill('SIGKILL'))
}

const PLACES: Record<string, () => Promise<World>> = {
  'fixed, TCP': () => outside({ HOST: '127.0.0.1', PORT: '0' }),
  'fixed, a unix socket': async () => {
    const folder = mkdtempSync(join(tmpdir(), 'manyhost-early-'))
    const world = await outside({ SOCKET_PATH: join(folder, 's') })
    return {
      ...world,
      close: () => world.close().finally(() => rmSync(folder, { recursive: true })),
    }
  },
  'processes, TCP': () => started('tcp'),
  'processes, a unix socket': () => started('unix'),
}

function started(listen: 'tcp' | 'unix'): Promise<World> {
  const session = new Session({ provider: processes() })
  session.startup({
    url: 'http://calc',
    command: [process.execPath, script],
    listen,
    concurrency: 2,
  })
  return open(session)
}

for (const [place, make] of Object.entries(PLACES)) {
  describe(place, () => {
    let world: World
    beforeAll(async () => {
      world = await make()
    })
    afterAll(() => world.close())

    const paths = [
      ...['fin', 'late'].flatMap((end) =>
        ['length', 'kept', 'chunked', 'none'].map((form) => `/${end}/${form}`),
      ),
      ...['length', 'kept', 'chunked'].map((form) => `/reset/${form}`),
      '/stays/length',
    ]

    test.each(paths)('%s: answered with 413, executed once', async (path) => {
      const { session, gateway } = world
      const client = session.client()
      let count = 0
      for (const [name, body] of Object.entries(BODIES)) {
        // A client of the gateway that never ends its body would be told so by the gateway itself.
        const isEndless = name === 'a stream without end'
        for (let round = 0; round < ROUNDS; round++) {
          const res = await client.post(`http://calc${path}`, { body: body() as never })
          expect([res.status, await res.text()], `${name} by the client`).toEqual([413, 'no'])
          count++
          if (isEndless) continue
          const given = body()
          const again = await client.post(`${gateway.url}/calc${path}`, {
            body: (typeof given === 'function' ? given() : given) as never,
          })
          expect([again.status, await again.text()], `${name} by the gateway`).toEqual([413, 'no'])
          count++
        }
      }
      const counts = await (await client.get('http://calc/count')).json()
      expect(counts).toEqual({ [path]: count })
      await waitUntil(() => session.cluster('http://calc').inFlight === 0)
    })
  })
}

test('an answer without a length that ends with FIN and then a reset is whole, however slowly it is read', async () => {
  const megabyte = Buffer.alloc(1 << 20, 'x')
  for (const size of [0, 1, 16_384, 60_000]) {
    const { client } = await openRawService((socket) => {
      socket.write('HTTP/1.0 200 OK\r\n\r\n')
      socket.end(megabyte.subarray(0, size), () => socket.resetAndDestroy())
    })
    for (let round = 0; round < 20; round++) {
      const { body } = await client.get('http://calc/')
      let length = 0
      for await (const chunk of body as ReadableStream<Uint8Array>) {
        length += chunk.length
        if (round % 2 === 0) await new Promise((take) => setImmediate(take))
      }
      expect(length).toBe(size)
    }
  }
})

test('an answer that was cut short is none, though it came before the upload was sent', async () => {
  let count = 0
  const { client, session } = await openRawService((socket) => {
    socket.pause()
    if (++count > 1) {
      socket.write('HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok')
      return
    }
    socket.write('HTTP/1.1 413 L\r\ncontent-length: 10\r\n\r\nno', () => socket.resetAndDestroy())
  })
  const res = await client.post('http://calc/', { body: Buffer.alloc(1 << 22) })
  expect([res.status, await res.text(), count]).toEqual([200, 'ok', 2])
  await waitUntil(() => session.cluster('http://calc').inFlight === 0)
})

test('a connection whose request is not sent yet, though it was answered, has no second one', async () => {
  let count = 0
  const { client, session, connections } = await openRawService((socket) => {
    // It takes no more than the head, and says that it goes on with the connection.
    socket.pause()
    count++
    socket.write('HTTP/1.1 413 L\r\ncontent-length: 2\r\n\r\nno')
  })
  for (let round = 1; round <= 5; round++) {
    const res = await client.post('http://calc/', { body: Buffer.alloc(1 << 24), resend: 'never' })
    expect([res.status, await res.text(), count]).toEqual([413, 'no', round])
  }
  expect(connections()).toBeGreaterThanOrEqual(5)
  expect(session.cluster('http://calc').stats()).toMatchObject({ executedTwice: 0, ejections: 0 })
})

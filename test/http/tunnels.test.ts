import { createHash } from 'node:crypto'
import { once } from 'node:events'
import type { Duplex } from 'node:stream'
import { connect, upgrade, WebSocket } from 'undici'
import { expect, test } from 'vitest'
import type { NodeRequest } from '../../providers/testing/index.ts'
import { openRawService, openService } from '../fakes/service.ts'
import { waitUntil } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'

expectNothingLeft()

const SWITCHING = 'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: '

function echoing(_req: NodeRequest, socket: Duplex): void {
  socket.write(`${SWITCHING}echo\r\nX-Y: z\r\n\r\n`)
  socket.on('error', () => undefined)
  socket.on('data', (data) => socket.write(`you said ${data}`))
  socket.on('end', () => socket.end())
}

const plain = (_req: unknown, res: { end(text: string): void }): void => res.end('plain')

test('upgrade: bytes both ways; its place is held until the tunnel is closed', async () => {
  const { session } = openService(plain as never, {}, { upgrade: echoing })
  const dispatcher = session.dispatcher()
  const { socket, headers } = await upgrade('http://calc/', { dispatcher, protocol: 'echo' })
  expect(headers['x-y']).toBe('z')
  socket.write('hello')
  expect(String((await once(socket, 'data'))[0])).toBe('you said hello')
  const cluster = session.cluster('http://calc')
  expect(cluster.inFlight).toBe(1)
  socket.end()
  await waitUntil(() => cluster.inFlight === 0)
  expect(cluster.stats()).toMatchObject({ completions: 1, failures: 0 })
})

test('a tunnel ends with its instance', async () => {
  const { session, provider } = openService(plain as never, {}, { upgrade: echoing })
  const dispatcher = session.dispatcher()
  const { socket } = await upgrade('http://calc/', { dispatcher, protocol: 'echo' })
  const closed = once(socket, 'close').catch((error: unknown) => [error])
  socket.on('error', () => undefined)
  provider.instances[0]?.kill()
  await closed
  await waitUntil(() => session.cluster('http://calc').inFlight === 0)
})

test('an upgrade that is refused is an answer', async () => {
  const { session } = openService((_req, res) => void res.writeHead(426).end('no'))
  const dispatcher = session.dispatcher()
  await expect(upgrade('http://calc/', { dispatcher, protocol: 'echo' })).rejects.toThrow()
  await waitUntil(() => session.cluster('http://calc').inFlight === 0)
})

test('CONNECT', async () => {
  const { session } = await openRawService((socket, head) => {
    if (head.startsWith('CONNECT')) socket.write('HTTP/1.1 200 OK\r\n\r\n')
    socket.on('data', (data) => socket.write(`you said ${data}`))
  })
  const dispatcher = session.dispatcher()
  const { statusCode, socket } = await connect({
    dispatcher,
    origin: 'http://calc',
    path: 'example.com:80',
  } as never)
  expect(statusCode).toBe(200)
  socket.write('hello\r\n\r\n')
  expect(String((await once(socket, 'data'))[0])).toContain('you said hello')
  expect(session.cluster('http://calc').inFlight).toBe(1)
  socket.destroy()
  await waitUntil(() => session.cluster('http://calc').inFlight === 0)
})

test('a WebSocket', async () => {
  const { session } = openService(
    plain as never,
    {},
    {
      upgrade: (req, socket) => {
        const key = `${req.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`
        const accept = createHash('sha1').update(key).digest('base64')
        socket.write(`${SWITCHING}websocket\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`)
        socket.write(Buffer.concat([Buffer.from([0x81, 5]), Buffer.from('hello')]))
        socket.on('error', () => undefined)
        socket.on('data', (frame: Buffer) => {
          // A close frame is answered with one.
          if (frame[0] === 0x88 && !socket.writableEnded) socket.end(Buffer.from([0x88, 0]))
        })
      },
    },
  )
  const socket = new WebSocket('ws://calc/', { dispatcher: session.dispatcher() })
  const event = await new Promise<{ data: unknown }>((resolve, reject) => {
    socket.onmessage = resolve
    socket.onerror = reject as never
  })
  expect(event.data).toBe('hello')
  expect(session.cluster('http://calc').inFlight).toBe(1)
  const closed = new Promise((resolve) => {
    socket.onclose = resolve
  })
  socket.close()
  await closed
  await waitUntil(() => session.cluster('http://calc').inFlight === 0)
})

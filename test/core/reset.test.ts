/** Connections that are reset at each moment of their end: none leaves its descriptor behind. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { expect, test } from 'vitest'
import { resetConnection } from '../../src/core/http/reset-connection.ts'
import { expectNothingLeft } from '../leftovers.ts'

expectNothingLeft()

const moments: [string, (socket: Socket) => void][] = [
  ['before its end', (socket) => resetConnection(socket)],
  [
    'in the turn of its end',
    (socket) => {
      socket.end()
      resetConnection(socket)
    },
  ],
  [
    'in the turn after its end',
    (socket) => {
      socket.end('bye')
      process.nextTick(() => resetConnection(socket))
    },
  ],
  [
    'in a later turn',
    (socket) => {
      socket.end('bye')
      setImmediate(() => resetConnection(socket))
    },
  ],
  ['when its end has been sent', (socket) => socket.end(() => resetConnection(socket))],
  [
    'with much that waits',
    (socket) => {
      socket.end(Buffer.alloc(50_000_000))
      setImmediate(() => resetConnection(socket))
    },
  ],
]

test.each(moments)('%s', async (_name, act) => {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined)
    act(socket)
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  for (let i = 0; i < 20; i++) {
    const client = connect((server.address() as AddressInfo).port, '127.0.0.1')
    client.on('error', () => undefined)
    await new Promise((resolve) => client.once('close', resolve).once('end', resolve).resume())
    client.destroy()
  }
  server.close()
  await once(server, 'close')
  expect(server.listening).toBe(false)
})

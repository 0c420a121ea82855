/** A relay of bytes between a client and a server, so that a test decides how and when the client goes away. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { onCleanup, waitUntil } from './gateway-fixture.ts'

/** How a client goes: it ends its half, ends all and is gone, breaks it, or is there and does nothing any more. */
export type Departure = 'FIN' | 'close' | 'RST' | 'frozen'

export interface ByteRelay {
  readonly port: number
  /** Of the connection to the server. */
  readonly upstreamPort: number | undefined
  /** Whether the server has closed the connection as well. */
  readonly isClosed: boolean
  leave(way: Departure): void
}

export async function startByteRelay(port: number): Promise<ByteRelay> {
  let far: Socket | undefined
  let isClosed = false
  const server = createServer({ allowHalfOpen: true }, (near) => {
    far = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
    for (const socket of [near, far]) {
      socket.on('error', () => undefined)
      onCleanup(async () => socket.destroy())
    }
    for (const event of ['end', 'error', 'close']) {
      far.on(event, () => {
        isClosed = true
      })
    }
    near.pipe(far, { end: false })
    far.pipe(near, { end: false })
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  onCleanup(async () => server.close())
  return {
    port: (server.address() as AddressInfo).port,
    get upstreamPort() {
      return far?.localPort
    },
    get isClosed() {
      return isClosed
    },
    leave(way) {
      if (!far) throw new Error('nobody has connected')
      if (way === 'FIN') far.end()
      else if (way === 'close') far.destroy()
      else if (way === 'RST') far.resetAndDestroy()
      else far.unpipe().removeAllListeners('data').pause()
    },
  }
}

/** Waits until the server has closed its end. */
export async function waitUntilClosed(relay: ByteRelay): Promise<void> {
  await waitUntil(() => relay.isClosed, 'the server closes the connection')
}

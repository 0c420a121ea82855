/** Connections to instances on other machines: the end of what is sent loses nothing of what comes back. */
import { once } from 'node:events'
import { type AddressInfo, createServer, connect as dial, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { afterEach, expect, onTestFinished, test, vi } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { splice } from '../../../providers/agent/splice.ts'
import { createTunnelConnector } from '../../../providers/golem/tunnel.ts'
import { openChannels } from '../../../providers/kubernetes/channels.ts'
import { openPortForward } from '../../../providers/kubernetes/port-forward.ts'
import { runEventLoop, waitUntil } from '../../help.ts'
import { expectNothingLeft } from '../../leftovers.ts'

expectNothingLeft()

afterEach(() => void vi.useRealTimers())

interface Far {
  readonly stream: Duplex
  /** Bytes that have come at the other side. */
  readonly seen: () => string
  readonly isClosed: () => boolean
  send(text: string): void
  close(): void
}

const LATE = 'x'.repeat(300_000)

/** A websocket server, and what the last one who came has said. `cut` bytes of each message are the channel's. */
async function websockets(cut: number): Promise<Omit<Far, 'stream'> & { readonly uri: string }> {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
  await once(server, 'listening')
  onTestFinished(() => {
    for (const client of server.clients) client.terminate()
    server.close()
  })
  let seen = ''
  let isClosed = false
  const taken = once(server, 'connection').then(([socket]: WebSocket[]) => {
    socket?.on('message', (data) => {
      seen += (data as Buffer).subarray(cut).toString()
    })
    socket?.on('close', () => {
      isClosed = true
    })
    return socket as WebSocket
  })
  // Two bytes of each channel name its port.
  const head = Buffer.alloc(cut)
  let isFirst = cut > 0
  return {
    uri: `ws://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen: () => seen,
    isClosed: () => isClosed,
    send: (text) =>
      void taken.then((socket) => {
        socket.send(Buffer.concat([head, Buffer.alloc(isFirst ? 2 : 0), Buffer.from(text)]))
        isFirst = false
      }),
    close: () => void taken.then((socket) => socket.close()),
  }
}

async function kubernetes(): Promise<Far> {
  const { uri, ...far } = await websockets(1)
  const handler = {
    connect: async (
      _path: string,
      _text: null,
      take: (channel: number, data: Buffer) => boolean,
    ) => {
      const socket = new WebSocket(uri)
      socket.on('message', (data: Buffer) => take(data[0] as number, data.subarray(1)))
      await once(socket, 'open')
      return socket
    },
  }
  const api = { openChannels: (path: string) => openChannels(handler as never, path) }
  return { ...far, stream: await openPortForward(api as never, 'space', 'pod', 1) }
}

async function golem(): Promise<Far> {
  const { uri, ...far } = await websockets(0)
  const ws = await import('ws')
  const connect = createTunnelConnector({ ws } as never, () => ({ uri, key: 'key' }))
  const stream = await new Promise<Duplex>((resolve, reject) => {
    connect({} as never, (...[error, socket]) =>
      error ? reject(error) : resolve(socket as Duplex),
    )
  })
  return { ...far, stream }
}

const FARS = { kubernetes, golem }

test.each(['kubernetes', 'golem'] as const)(
  '%s: what comes after the end of what was sent arrives, and then nothing is left',
  async (name) => {
    const { stream, seen, isClosed, send, close } = await FARS[name]()
    let text = ''
    let isOver = false
    stream.on('data', (chunk) => {
      text += chunk
    })
    stream.on('end', () => {
      isOver = true
    })
    stream.end('asked')
    await waitUntil(() => seen() === 'asked')
    for (const part of ['a', 'b', LATE]) {
      send(part)
      await waitUntil(() => text.endsWith(part))
    }
    expect(isClosed()).toBe(false)
    close()
    await waitUntil(() => isOver)
    expect(text).toBe(`ab${LATE}`)
    await waitUntil(() => stream.destroyed && isClosed())
  },
)

test.each(['kubernetes', 'golem'] as const)(
  '%s: a machine that says nothing more is not waited for without end',
  async (name) => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    const { stream, isClosed } = await FARS[name]()
    stream.on('error', () => undefined).resume()
    stream.end()
    await waitUntil(() => stream.writableFinished)
    vi.advanceTimersByTime(59_000)
    expect(stream.destroyed).toBe(false)
    vi.advanceTimersByTime(62_000)
    await waitUntil(() => stream.destroyed && isClosed())
  },
)

test('agent: what a hub has sent to its end reaches a server that has ended its half and reads slowly', async () => {
  const pair = async (): Promise<[Socket, Socket]> => {
    const server = createServer({ allowHalfOpen: true })
    await once(server.listen(0, '127.0.0.1'), 'listening')
    const { port } = server.address() as AddressInfo
    const one = dial({ port, host: '127.0.0.1', allowHalfOpen: true })
    const [other] = (await once(server, 'connection')) as [Socket]
    server.close()
    for (const socket of [one, other]) {
      socket.on('error', () => undefined)
      onTestFinished(() => void socket.destroy())
    }
    return [one, other]
  }
  const [hub, lane] = await pair()
  const [local, served] = await pair()
  splice(lane, local, () => undefined)
  served.pause().end()
  await once(hub.resume(), 'end')
  const sent = Buffer.alloc(20_000_000, 'x')
  hub.end(sent)
  let received = 0
  served.on('data', (chunk: Buffer) => {
    received += chunk.length
    // The kernel holds what it can, and the rest is with the agent when the hub's end comes.
    if (!lane.readableEnded) served.pause()
  })
  while (!lane.readableEnded) {
    served.resume()
    await runEventLoop(3)
  }
  served.pause()
  await runEventLoop(50)
  served.resume()
  await waitUntil(() => served.readableEnded || served.destroyed)
  expect(received).toBe(sent.length)
  await waitUntil(() => lane.destroyed && local.destroyed)
})

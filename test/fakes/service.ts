/** A session with one service whose instances are a function, or a raw server that misbehaves as it likes. */
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { onTestFinished } from 'vitest'
import { fixed } from '../../providers/static.ts'
import {
  type InProcessOptions,
  type InProcessProvider,
  inProcess,
  type NodeHandler,
} from '../../providers/testing/index.ts'
import { type ServiceOptions, Session } from '../../src/index.ts'

export interface ServiceFixture {
  readonly session: Session
  readonly provider: InProcessProvider
  readonly client: ReturnType<Session['client']>
}

/** `http://calc`, served by `handler`; the session is closed with the test. */
export function openService(
  handler: NodeHandler,
  options: Partial<ServiceOptions> = {},
  how: InProcessOptions = {},
): ServiceFixture {
  const provider = inProcess(handler, { style: 'node', ...how } as InProcessOptions)
  const session = openSession(provider)
  session.startup({ url: 'http://calc', ...options })
  return { session, provider, client: session.client() }
}

export function openSession(provider: ConstructorParameters<typeof Session>[0] | object): Session {
  const session = new Session({ provider: provider as InProcessProvider })
  onTestFinished(() => session.close({ force: true }))
  return session
}

/** A TCP server that does with each connection what `serve` says, once the request's head is there. */
export async function openRawServer(
  serve: (socket: Socket, head: string) => void,
): Promise<{ url: string; server: Server; connections: () => number }> {
  let connections = 0
  const open = new Set<Socket>()
  const server = createServer((socket) => {
    connections++
    open.add(socket)
    let head = ''
    socket.on('error', () => undefined)
    socket.on('close', () => open.delete(socket))
    socket.on('data', (data) => {
      head += data.toString('latin1')
      if (!head.includes('\r\n\r\n')) return
      const whole = head
      head = ''
      serve(socket, whole)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    for (const socket of open) socket.destroy()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return { url: `http://127.0.0.1:${port}`, server, connections: () => connections }
}

/** `http://calc` in front of a raw server. */
export async function openRawService(
  serve: (socket: Socket, head: string) => void,
  options: Partial<ServiceOptions> = {},
): Promise<Omit<ServiceFixture, 'provider'> & { url: string; connections: () => number }> {
  const { url, connections } = await openRawServer(serve)
  const session = openSession(fixed({ urls: [url] }))
  session.startup({ url: 'http://calc', ...options })
  return { session, client: session.client(), url, connections }
}

export async function readBody(readable: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of readable) chunks.push(chunk)
  return Buffer.concat(chunks)
}

/** What the tests of the gateway share: a session behind a gateway, and a client that speaks in bytes. */
import { connect, type Socket } from 'node:net'
import { vi } from 'vitest'
import {
  type InProcessOptions,
  type InProcessProvider,
  inProcess,
  type NodeHandler,
} from '../../providers/testing/index.ts'
import type { Cluster } from '../../src/cluster/cluster.ts'
import { createGateway, type Gateway, type GatewayOptions } from '../../src/gateway/index.ts'
import type { ServiceOptions } from '../../src/session/service.ts'
import { SessionCore } from '../../src/session/session.ts'
import { createLatch, runEventLoop, waitUntil } from '../help.ts'

export interface GatewayFixture {
  readonly session: SessionCore
  readonly gateway: Gateway
  readonly provider: InProcessProvider
  readonly cluster: Cluster
  readonly port: number
  readonly url: string
}

const cleanups: (() => Promise<unknown>)[] = []

export function onCleanup(end: () => Promise<unknown>): void {
  cleanups.push(end)
}

/** Ends all that `house` and `dial` opened. */
export async function cleanUp(): Promise<void> {
  for (const end of cleanups.splice(0).reverse()) await end()
}

export interface GatewayFixtureOptions {
  readonly service?: Partial<ServiceOptions>
  readonly gateway?: GatewayOptions
  readonly provider?: InProcessOptions
}

/** A gateway in front of `http://calc`, whose one instance is the handler. */
export async function openGatewayFixture(
  handler: NodeHandler = echo,
  { service, gateway: options, provider: inner }: GatewayFixtureOptions = {},
): Promise<GatewayFixture> {
  const provider = inProcess(handler, { style: 'node', ...inner })
  const session = new SessionCore({ provider, tickInterval: 20 })
  const cluster = session.startup({ url: 'http://calc', concurrency: 8, ...service })
  const gateway = await createGateway(session, {
    listen: '127.0.0.1:0',
    drainTimeout: 50,
    ...options,
  })
  onCleanup(async () => {
    // Clients that `dial` opened have gone by now. Closing would free what they left.
    await waitUntil(
      () => cluster.inFlight === 0 && cluster.requestQueue.isEmpty,
      'clients that have gone leave no slot and no waiting request',
    )
    await gateway.close()
    await session.close({ force: true })
  })
  const port = Number(new URL(gateway.url).port)
  return { session, gateway, provider, cluster, port, url: gateway.url }
}

/** Answers with what it was asked, as JSON. */
export const echo: NodeHandler = async (req, res) => {
  const chunks: Buffer[] = []
  for await (const chunk of req) chunks.push(chunk)
  res.setHeader('content-type', 'application/json')
  res.end(
    JSON.stringify({
      method: req.method,
      url: req.url,
      headers: req.headers,
      raw: req.rawHeaders,
      body: Buffer.concat(chunks).toString(),
    }),
  )
}

/** One connection, seen as bytes. */
export class RawConnection {
  readonly socket: Socket
  /** All that came. */
  text = ''
  isOver = false
  error: Error | undefined

  constructor(socket: Socket) {
    this.socket = socket
    socket.setEncoding('latin1')
    socket.on('data', (chunk) => {
      this.text += chunk
    })
    socket.on('error', (error) => {
      this.error = error
    })
    socket.on('end', () => {
      this.isOver = true
    })
    socket.on('close', () => {
      this.isOver = true
    })
  }

  write(text: string): this {
    this.socket.write(text, 'latin1')
    return this
  }

  /** Resolves when what came matches, throws when the connection ends before. */
  async match(wanted: string | RegExp): Promise<string> {
    const fits = (): boolean =>
      typeof wanted === 'string' ? this.text.includes(wanted) : wanted.test(this.text)
    await waitUntil(
      () => fits() || this.isOver,
      `${wanted} or the end of ${this.text.slice(-2_000)}`,
    )
    if (!fits()) throw new Error(`no ${wanted} in ${JSON.stringify(this.text.slice(-2_000))}`)
    return this.text
  }

  /** All that came until the other end closed. */
  async end(): Promise<string> {
    await waitUntil(() => this.isOver, 'the end of the connection')
    return this.text
  }
}

export async function connectRaw(port: number, text = ''): Promise<RawConnection> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
  const wire = new RawConnection(socket)
  onCleanup(async () => socket.destroy())
  await new Promise((resolve) => socket.once('connect', resolve))
  return text === '' ? wire : wire.write(text)
}

/**
 * Resolves when nothing more of what was written leaves. Client, gateway and instance share this event loop, and what
 * one writes another can read at once: turns without any move say that none will come.
 */
export async function waitUntilIdle({ socket }: RawConnection): Promise<void> {
  for (let before = -1; before !== socket.writableLength; await runEventLoop(300)) {
    before = socket.writableLength
  }
}

/** Sends bytes and answers with all that comes until the gateway closes. */
export async function sendRaw(port: number, text: string): Promise<string> {
  return (await connectRaw(port, text)).end()
}

/** Head and body of the first answer. */
export function splitResponse(text: string): { status: number; head: string; body: string } {
  const at = text.indexOf('\r\n\r\n')
  const head = text.slice(0, at)
  return { status: Number(head.split(' ')[1]), head: head.toLowerCase(), body: text.slice(at + 4) }
}

/** Lets `ms` pass on the false clock, turn by turn, until it is true; no real time counts. */
export async function advanceUntil(ms: number, isTrue: () => boolean): Promise<void> {
  for (; !isTrue(); await runEventLoop(1)) vi.advanceTimersByTime(ms)
}

export { createLatch, waitUntil }

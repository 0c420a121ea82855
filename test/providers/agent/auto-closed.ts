/** Hubs, agents, instances, and proxies between them. Each one ends with the test that has made it. */
import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { afterEach, vi } from 'vitest'
import type { AgentsProvider } from '../../../providers/agent/index.ts'
import type { Running } from '../../../src/core/provider.ts'
import { service, waitUntil } from '../../help.ts'
import { specOf } from '../process-help.ts'
import { type LocalAgent, openTestAgents, startLocalAgent } from './help.ts'

// Real processes, on a machine that may be busy.
vi.setConfig({ testTimeout: 120_000 })

/** Called after the test, the last one first. */
export const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

export function opened(options: Parameters<typeof openTestAgents>[0] = {}): AgentsProvider {
  const provider = openTestAgents(options)
  cleanups.push(() => provider.close?.())
  return provider
}

export function here(
  address: string,
  options: Parameters<typeof startLocalAgent>[1] = {},
): LocalAgent {
  const agent = startLocalAgent(address, options)
  cleanups.push(() => agent.end())
  return agent
}

export const unending = new AbortController().signal

export async function serving(
  provider: AgentsProvider,
  part = {},
): Promise<Running & { id: string }> {
  const spec = specOf({ command: service, ...part })
  const running = await provider.start(spec, { signal: unending })
  await waitUntil(
    () =>
      running.accepts?.(unending).then(
        () => true,
        () => false,
      ) ?? true,
  )
  return Object.assign(running, { id: spec.id })
}

export interface Proxy {
  readonly address: string
  readonly sockets: readonly Socket[]
  /** What the agent has sent over each connection. */
  readonly received: Buffer[][]
  /** Passes nothing on any more, and leaves all connections open. */
  freeze(): void
  /** Breaks the agent's own link, and accepts no new connection. */
  cutLink(): void
  /** Accepts new connections again. */
  mend(): void
}

/** A proxy in front of the hub that can cut connections. @param delay milliseconds, in each direction */
export async function startProxy(to: string, delay = 0): Promise<Proxy> {
  const sockets: Socket[] = []
  const received: Buffer[][] = []
  let isCut = false
  const [, port = ''] = to.split(':')
  const server: Server = createServer({ allowHalfOpen: true }, (near) => {
    if (isCut) return void near.destroy()
    const far = connect({ port: Number(port), host: '127.0.0.1', allowHalfOpen: true })
    const chunks: Buffer[] = []
    received.push(chunks)
    sockets.push(near)
    near.on('data', (chunk) => chunks.push(chunk))
    for (const [from, into] of [
      [near, far],
      [far, near],
    ] as const) {
      if (delay === 0) from.pipe(into)
      else {
        // The end is delayed as well, so that all stays in order.
        from.on('data', (chunk) => setTimeout(() => into.write(chunk), delay))
        from.on('end', () => setTimeout(() => into.end(), delay))
      }
      from.on('error', () => into.destroy())
      from.on('close', () => into.destroy())
    }
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  cleanups.push(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return {
    address: `127.0.0.1:${(server.address() as { port: number }).port}`,
    sockets,
    received,
    freeze: () => {
      isCut = true
      for (const socket of sockets) socket.pause().removeAllListeners('data').unpipe()
    },
    cutLink: () => {
      isCut = true
      sockets[0]?.resetAndDestroy()
    },
    mend: () => {
      isCut = false
    },
  }
}

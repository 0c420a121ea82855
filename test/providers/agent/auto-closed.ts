/** Hubs, agents, instances and roads between them, which end with the test that made them. */
import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { afterEach, vi } from 'vitest'
import type { AgentsProvider } from '../../../providers/agent/index.ts'
import type { Running } from '../../../src/core/provider.ts'
import { service, waitUntil } from '../../help.ts'
import { specOf } from '../process-help.ts'
import { type LocalAgent, openTestAgents, startLocalAgent } from './help.ts'

// Real processes, on a machine that may do much else.
vi.setConfig({ testTimeout: 120_000 })

/** What is to be ended after the test, last first. */
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

export interface Relay {
  readonly address: string
  readonly sockets: readonly Socket[]
  /** What the agent said over each connection. */
  readonly said: Buffer[][]
  /** Neither lets through nor tells. */
  freeze(): void
  /** Breaks the agent's own link, and lets no new connection through. */
  cutLink(): void
  /** Lets new ones through again. */
  mend(): void
}

/** A road to the hub that can be cut. */
export async function relay(to: string, delay = 0): Promise<Relay> {
  const sockets: Socket[] = []
  const said: Buffer[][] = []
  let isCut = false
  const [, port = ''] = to.split(':')
  const server: Server = createServer({ allowHalfOpen: true }, (near) => {
    if (isCut) return void near.destroy()
    const far = connect({ port: Number(port), host: '127.0.0.1', allowHalfOpen: true })
    const words: Buffer[] = []
    said.push(words)
    sockets.push(near)
    near.on('data', (chunk) => words.push(chunk))
    for (const [from, into] of [
      [near, far],
      [far, near],
    ] as const) {
      if (delay === 0) from.pipe(into)
      else {
        // Later, in order; the end as well.
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
    said,
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

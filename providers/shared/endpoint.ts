/** A server that listens somewhere, seen from its client: the pool of connections to it, and one knock at its door. */
import { connect as connectSocket } from 'node:net'
import type { Pool } from 'undici'
import { createConnector, DEFAULT_HEADER_SIZE } from '../../src/core/connector.ts'
import { createPatchedPool } from '../../src/core/http/patched-pool.ts'
import type { ListenOn, StartSpec } from '../../src/core/provider.ts'

export interface ServerEndpoint {
  /** `http://127.0.0.1:9001`; behind a unix socket the host says nothing. */
  readonly origin: string
  readonly listenOn: ListenOn
  /** For people: the origin, or `unix:/path`. */
  readonly address: string
}

/** Where to connect for a server that was told to listen there. */
export function endpointOf(listenOn: ListenOn): ServerEndpoint {
  if (listenOn.socketPath !== undefined) {
    return { origin: 'http://localhost', listenOn, address: `unix:${listenOn.socketPath}` }
  }
  const host = connectableHost(listenOn.host)
  const origin = `http://${host.includes(':') ? `[${host}]` : host}:${listenOn.port}`
  return { origin, listenOn: { host, port: listenOn.port }, address: origin }
}

/** A wildcard is an address to listen on, not one to connect to. */
function connectableHost(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1'
  return host === '::' ? '::1' : host
}

/**
 * @param spec of the instance: how many requests it serves at a time, and how large the head of an answer may be
 * @param connect undici's option of that name: TLS settings, or a function that connects.
 */
export function openPool(
  { origin, listenOn }: ServerEndpoint,
  { concurrency, headerSize = DEFAULT_HEADER_SIZE }: Pick<StartSpec, 'concurrency' | 'headerSize'>,
  connect?: Pool.Options['connect'],
): Pool {
  const { socketPath } = listenOn
  return createPatchedPool(origin, {
    // One more than the places, so that a health check need not wait for a request that it is about.
    connections: concurrency + 1,
    maxHeaderSize: headerSize,
    // How long an answer may take is the session's business: a second clock here could only be wrong.
    headersTimeout: 0,
    bodyTimeout: 0,
    connect: createConnector(
      typeof connect === 'function'
        ? connect
        : { ...(socketPath !== undefined && { socketPath }), ...connect },
    ),
  })
}

/** Connects once and hangs up; rejects when nobody accepts. */
export function tcpProbe({ listenOn }: ServerEndpoint, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    const socket =
      listenOn.socketPath !== undefined
        ? connectSocket({ path: listenOn.socketPath })
        : connectSocket({ host: listenOn.host, port: listenOn.port })
    const onAbort = (): void => done(() => reject(signal.reason))
    const done = (settle: () => void): void => {
      signal.removeEventListener('abort', onAbort)
      socket.destroy()
      settle()
    }
    signal.addEventListener('abort', onAbort, { once: true })
    socket.once('connect', () => done(resolve))
    // Not `once`: a socket that is being destroyed may have one more to say.
    socket.on('error', (error) => done(() => reject(error)))
  })
}

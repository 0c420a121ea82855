/** The address of an instance's server as its client sees it, the pool of connections to it, and a probe. */
import { type EventEmitter, once } from 'node:events'
import { connect as connectSocket } from 'node:net'
import type { Pool } from 'undici'
import { createConnector, DEFAULT_HEADER_SIZE } from '../../src/core/connector.ts'
import { createPatchedPool } from '../../src/core/http/patched-pool.ts'
import type { ListenOn, StartSpec } from '../../src/core/provider.ts'

export interface ServerEndpoint {
  /** `http://127.0.0.1:9001`; with a unix socket the host has no meaning. */
  readonly origin: string
  readonly listenOn: ListenOn
  /** For people: the origin, or `unix:/path`. */
  readonly address: string
}

/** The environment that tells a server where to listen. */
export function listenEnvironment(listenOn: ListenOn): Record<string, string> {
  return listenOn.socketPath === undefined
    ? { HOST: listenOn.host, PORT: String(listenOn.port) }
    : { SOCKET_PATH: listenOn.socketPath }
}

/** The address to connect to, for a server that was told to listen on `listenOn`. */
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
 * @param spec how many requests the instance serves at a time, and how large the head of a response may be
 * @param connect undici's option of that name: TLS settings, or a function that connects
 */
export function openPool(
  { origin, listenOn }: ServerEndpoint,
  { concurrency, headerSize = DEFAULT_HEADER_SIZE }: Pick<StartSpec, 'concurrency' | 'headerSize'>,
  connect?: Pool.Options['connect'],
): Pool {
  const { socketPath } = listenOn
  return createPatchedPool(origin, {
    // One more than the slots, so that a health check need not wait until a request is over.
    connections: concurrency + 1,
    maxHeaderSize: headerSize,
    // The session bounds the time of a response. A second limit here could only contradict it.
    headersTimeout: 0,
    bodyTimeout: 0,
    connect: createConnector(
      typeof connect === 'function'
        ? connect
        : { ...(socketPath !== undefined && { socketPath }), ...connect },
    ),
  })
}

/** Connects once and closes the connection. Rejects when nobody accepts it. */
export function tcpProbe({ listenOn }: ServerEndpoint, signal: AbortSignal): Promise<void> {
  return probeOnce(signal, {
    open: () =>
      listenOn.socketPath !== undefined
        ? connectSocket({ path: listenOn.socketPath })
        : connectSocket({ host: listenOn.host, port: listenOn.port }),
    openEvent: 'connect',
    close: (socket) => socket.destroy(),
  })
}

export interface ProbeOptions<Connection extends EventEmitter> {
  open(): Connection
  /** The event of a connection that was accepted. */
  readonly openEvent: string
  close(connection: Connection): void
}

/** Opens a connection once and closes it. Rejects with the error of the connection, or with the reason of the signal. */
export async function probeOnce<Connection extends EventEmitter>(
  signal: AbortSignal,
  { open, openEvent, close }: ProbeOptions<Connection>,
): Promise<void> {
  signal.throwIfAborted()
  const connection = open()
  // `once` below listens until the first error alone, but a connection that is being closed may have one more.
  connection.on('error', () => {})
  try {
    await once(connection, openEvent, { signal })
  } catch (error) {
    throw signal.aborted ? signal.reason : error
  } finally {
    close(connection)
  }
}

/** Limits that every HTTP server of manyhost has for its connections, and its handling of clients that go away or do not read. */
import type { Server, ServerOptions, ServerResponse } from 'node:http'
import type { Server as TlsServer } from 'node:https'
import type { Socket } from 'node:net'
import { allowHalfClose } from './half-close.ts'
import { SlowReaderMonitor } from './slow-reader-monitor.ts'

/** Bytes per second that a client must read while a response waits for it. */
const MIN_RESPONSE_RATE = 512

export interface ServerLimits {
  /** Milliseconds for a whole request, with its body. */
  readonly requestTimeout: number
  /** Connections at a time. A further connection is closed at once. */
  readonly connections: number
}

/** Options of `createServer`, with and without TLS. */
export function serverOptions({ requestTimeout }: Pick<ServerLimits, 'requestTimeout'>) {
  return {
    headersTimeout: Math.min(10_000, requestTimeout),
    requestTimeout,
    // Only TLS reads this option.
    handshakeTimeout: 10_000,
    // The default is 30 s.
    connectionsCheckingInterval: 1_000,
    keepAliveTimeout: 65_000,
    // Finds clients that have vanished without closing their connection.
    keepAlive: true,
    keepAliveInitialDelay: 60_000,
    noDelay: true,
    // A client may end its half of the connection and still wait for its response.
    allowHalfOpen: true,
  } satisfies ServerOptions & { allowHalfOpen: boolean; handshakeTimeout: number }
}

/** Call this before the server listens. */
export function guardConnections(
  server: Server | TlsServer,
  { connections }: Pick<ServerLimits, 'connections'>,
): void {
  server.maxConnections = connections
  allowHalfClose(server as Server)
  const readers = new SlowReaderMonitor(MIN_RESPONSE_RATE)
  server.on('connection', (socket: Socket) => readers.add(socket))
}

/**
 * Ends the connection of a response that cannot be completed. A response that waits behind another one of its connection has
 * no socket yet. Newer versions of Node ignore `destroy` in that case, and the client would wait for ever.
 */
export function destroyResponse(response: ServerResponse): void {
  if (response.writableFinished) return
  if (response.socket) response.destroy()
  else response.req.socket.destroy()
}

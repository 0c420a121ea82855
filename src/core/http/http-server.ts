/** What every HTTP server of ours does with its connections: bounds, and clients that go away or do not read. */
import type { Server, ServerOptions, ServerResponse } from 'node:http'
import type { Server as TlsServer } from 'node:https'
import type { Socket } from 'node:net'
import { allowHalfClose } from './half-close.ts'
import { SlowReaderMonitor } from './slow-reader-monitor.ts'

/** Least bytes a second of what waits to be written to a client. */
const MIN_RESPONSE_RATE = 512

export interface ServerLimits {
  /** Milliseconds for a whole request, its body too. */
  readonly requestTimeout: number
  /** Connections at a time; more are closed at once. */
  readonly connections: number
}

/** Options of `createServer`, with and without TLS. */
export function serverOptions({ requestTimeout }: Pick<ServerLimits, 'requestTimeout'>) {
  return {
    headersTimeout: Math.min(10_000, requestTimeout),
    requestTimeout,
    // Of TLS; without it this says nothing.
    handshakeTimeout: 10_000,
    // node:http looks every 30 s, unless told otherwise.
    connectionsCheckingInterval: 1_000,
    keepAliveTimeout: 65_000,
    // Finds clients that vanished without a word.
    keepAlive: true,
    keepAliveInitialDelay: 60_000,
    noDelay: true,
    // A client may close its half and still want its answer.
    allowHalfOpen: true,
  } satisfies ServerOptions & { allowHalfOpen: boolean; handshakeTimeout: number }
}

/** To be called before the server listens. */
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
 * Ends the connection of an answer that cannot be completed. An answer that waits behind another one of its connection
 * has no socket yet, and newer Nodes forget a `destroy` there: its client would wait for ever.
 */
export function destroyResponse(response: ServerResponse): void {
  if (response.writableFinished) return
  if (response.socket) response.destroy()
  else response.req.socket.destroy()
}

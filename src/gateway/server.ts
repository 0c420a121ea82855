/** The server under the gateway: HTTP/1.1 and HTTP/2 on one port, with and without TLS. */
import { createServer as createHttp, type Server as HttpServer } from 'node:http'
import {
  createServer as createHttp2,
  type Http2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from 'node:http2'
import { createServer as createHttps } from 'node:https'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { TLSSocket } from 'node:tls'
import { describeError, ManyhostError } from '../core/errors.ts'
import { watchHalfClosedHttp } from '../core/http/half-close.ts'
import { allowHalfOpenHttp } from '../core/http/node-internals.ts'
import { SlowReaderMonitor } from '../core/http/slow-reader-monitor.ts'
import { afterUnref, every } from '../core/time.ts'
import { afterResponses, rejectMalformed } from './connection.ts'
import { detectHttp2 } from './http2-detection.ts'
import { type Http2Sessions, watchHttp2Sessions } from './http2-sessions.ts'
import { closeLingering, renderErrorResponse } from './lingering-close.ts'
import type { GatewaySettings } from './options.ts'
import { requestedProtocols, serializeWithoutUpgrade } from './protocols.ts'
import type { RequestHandler } from './request-handler.ts'
import { Certificates } from './tls.ts'

/** What the servers call. */
type GatewayHandlers = Pick<RequestHandler, 'onRequest' | 'onContinue' | 'onUpgrade' | 'onConnect'>

/** Milliseconds in which a new connection must send something when the server closes. */
const SILENT_CONNECTION_MS = 100
/** Concurrent streams of one HTTP/2 connection. */
const MAX_STREAMS = 256

export interface GatewayServer {
  readonly server: HttpServer
  /** Uses the options that may change while connections are open. */
  update(settings: Pick<GatewaySettings, 'connections' | 'answerRate'>): void
  /** Accepts no new request, and ends idle connections. Resolves when the last connection has ended. */
  close(timeout: number): Promise<void>
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function openGatewayServer(
  handlers: GatewayHandlers,
  settings: GatewaySettings,
): GatewayServer {
  const certificates = settings.tls && new Certificates(settings.tls)
  const server = certificates
    ? createTlsServer(certificates, settings)
    : createHttp(httpServerOptions(settings))
  server.maxConnections = settings.connections
  // Zero is no limit. Beyond a limit, node:http would drop headers silently. `headerSize` and `headerCount` limit them.
  server.maxHeadersCount = 0
  // A client may end its half and still wait for its response; node:http would drop it.
  allowHalfOpenHttp(server)
  attachHttp1(server, handlers)
  const readers = new SlowReaderMonitor(settings.answerRate)
  const http2 = settings.http2 ? createHttp2Server(handlers, settings, readers) : undefined
  shareConnections(server, http2, { isTls: certificates !== undefined, settings, handlers })
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    readers.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  // A connection that fails before it is accepted does not concern the others.
  server.on('error', () => undefined)
  return {
    server,
    update({ connections, answerRate }) {
      server.maxConnections = connections
      readers.rate = answerRate
    },
    close: async (timeout) => {
      certificates?.close()
      await closeAll(server, http2?.sessions.all ?? [], sockets, timeout)
    },
  }
}

function httpServerOptions(settings: GatewaySettings) {
  return {
    maxHeaderSize: settings.headerSize,
    headersTimeout: settings.headerTime,
    // The time that a body may take depends on its size: see `bodyRate`.
    requestTimeout: 0,
    keepAliveTimeout: settings.keepAlive,
    connectionsCheckingInterval: Math.min(1_000, settings.headerTime),
    // The gateway checks it, and responds with a problem.
    requireHostHeader: false,
    noDelay: true,
    // TCP keepalive detects clients that vanished.
    keepAlive: true,
    keepAliveInitialDelay: 60_000,
  }
}

function createTlsServer(certificates: Certificates, settings: GatewaySettings): HttpServer {
  const protocols = settings.http2 ? ['h2', 'http/1.1'] : ['http/1.1']
  try {
    const server = createHttps({
      ...httpServerOptions(settings),
      ...certificates.load(),
      ALPNProtocols: protocols,
      // node:http sets it without TLS.
      allowHalfOpen: true,
      handshakeTimeout: settings.headerTime,
    })
    certificates.watch((loaded) => server.setSecureContext(loaded))
    server.on('tlsClientError', (_error, socket) => socket.destroy())
    return server
  } catch (cause) {
    certificates.close()
    if (cause instanceof ManyhostError) throw cause
    const text = `gateway: tls: certificate and key cannot be used: ${describeError(cause)}`
    throw new ManyhostError('MANYHOST_INVALID_OPTION', text, { cause })
  }
}

function attachHttp1(server: HttpServer, handlers: GatewayHandlers): void {
  server.on('request', handlers.onRequest)
  server.on('checkContinue', handlers.onContinue)
  server.on('checkExpectation', handlers.onRequest)
  server.on('connect', (_request, socket: Duplex) => {
    socket.on('error', () => undefined)
    const response = renderErrorResponse(405, 'Method Not Allowed', 'CONNECT is not for a gateway')
    afterResponses(socket, () => closeLingering(socket, response))
  })
  server.on('clientError', onClientError)
}

/** The response to a client that did not send HTTP, by the code of the parser's error. */
const CLIENT_ERRORS: Readonly<Record<string, readonly [number, string, string]>> = {
  HPE_HEADER_OVERFLOW: [431, 'Request Header Fields Too Large', 'headers are too large'],
  HPE_CHUNK_EXTENSIONS_OVERFLOW: [400, 'Bad Request', 'chunk extensions are too large'],
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'Request Timeout', 'headers came too slowly'],
}
const MALFORMED = [400, 'Bad Request', 'form is not that of HTTP'] as const

function onClientError(error: NodeJS.ErrnoException, socket: Duplex): void {
  const { code = '' } = error
  const isFault = code.startsWith('HPE_') || code === 'ERR_HTTP_REQUEST_TIMEOUT'
  if (!isFault || !socket.writable) {
    socket.destroy()
    return
  }
  const [status, title, detail] = CLIENT_ERRORS[code] ?? MALFORMED
  rejectMalformed(socket, status, title, detail)
}

type Http2Handler = (request: Http2ServerRequest, response: Http2ServerResponse) => void

interface Http2Parts {
  readonly server: Http2Server
  readonly sessions: Http2Sessions
}

function createHttp2Server(
  handlers: GatewayHandlers,
  settings: GatewaySettings,
  readers: SlowReaderMonitor,
): Http2Parts {
  const server = createHttp2({
    maxSessionMemory: 10,
    // The gateway refuses a request slightly above the limit with a response. node:http2 resets one that is far above.
    maxHeaderListPairs: settings.headerCount + 64,
    settings: {
      maxConcurrentStreams: MAX_STREAMS,
      maxHeaderListSize: settings.headerSize,
      enableConnectProtocol: true,
    },
  })
  server.on('request', handlers.onRequest as unknown as Http2Handler)
  server.on('checkContinue', handlers.onContinue as unknown as Http2Handler)
  server.on('connect', handlers.onConnect as unknown as Http2Handler)
  return { server, sessions: watchHttp2Sessions(server, settings.keepAlive, readers) }
}

/** Gives each connection to the server of its HTTP version, as if it had arrived there. */
function shareConnections(
  server: HttpServer,
  http2: Http2Parts | undefined,
  {
    isTls,
    settings,
    handlers,
  }: { isTls: boolean; settings: GatewaySettings; handlers: GatewayHandlers },
): void {
  const event = isTls ? 'secureConnection' : 'connection'
  const [acceptHttp1] = server.listeners(event) as [(socket: Socket) => void]
  server.removeListener(event, acceptHttp1)
  const accept = (socket: Socket, isHttp2: boolean): void => {
    if (http2 && isHttp2) {
      http2.sessions.expect(socket)
      http2.server.emit('connection', socket)
      return
    }
    acceptHttp1.call(server, socket)
    socket.on('end', () => watchHalfClosedHttp(socket))
  }
  server.on('upgrade', (request, socket: Socket, head) => {
    socket.on('error', ignore)
    afterResponses(socket, () => {
      if (requestedProtocols(request) !== undefined)
        return handlers.onUpgrade(request, socket, head)
      socket.off('error', ignore)
      // The timeout of the idle connection would go on.
      socket.setTimeout(0)
      const bytes = serializeWithoutUpgrade(request, head)
      if (!socket.readableEnded) socket.unshift(bytes)
      acceptHttp1.call(server, socket)
      // The client ended its half while earlier requests were served: nothing can be unshifted after the end.
      if (!socket.readableEnded) return
      socket.emit('data', bytes)
      socket.emit('end')
    })
  })
  if (isTls) server.on(event, (socket: TLSSocket) => accept(socket, socket.alpnProtocol === 'h2'))
  else if (!http2) server.on(event, (socket: Socket) => accept(socket, false))
  else server.on(event, (socket: Socket) => detectHttp2(socket, settings.headerTime, accept))
}

function ignore(): void {}

/** Ends connections in order; those that are left after `timeout` ms are cut. */
async function closeAll(
  server: HttpServer,
  sessions: Iterable<ServerHttp2Session>,
  sockets: ReadonlySet<Socket>,
  timeout: number,
): Promise<void> {
  const ended = new Promise<void>((resolve) => {
    server.close(() => resolve())
  })
  for (const session of sessions) session.close()
  // Connections that have sent nothing yet. On a new one, a request may be on its way.
  const silent = [...sockets].filter(({ bytesRead }) => bytesRead === 0)
  const silenceTimer = afterUnref(SILENT_CONNECTION_MS, () => {
    for (const socket of silent) if (socket.bytesRead === 0) socket.destroy()
  })
  // A connection whose response had begun before the close stays open after that response.
  const idleChecks = every(50, () => server.closeIdleConnections())
  const cutTimer = afterUnref(timeout, () => {
    for (const socket of sockets) socket.destroy()
  })
  await ended
  idleChecks.clear()
  silenceTimer.clear()
  cutTimer.clear()
}

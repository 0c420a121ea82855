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
import type { RequestHandler as WholeFront } from './request-handler.ts'
import { Certificates } from './tls.ts'

/** What the servers need of it. */
type GatewayHandlers = Pick<WholeFront, 'onRequest' | 'onContinue' | 'onUpgrade' | 'onConnect'>

/** Milliseconds in which a new connection is to ask for something, when the server closes. */
const SILENT_CONNECTION_MS = 100
/** Streams of one connection at a time. */
const MAX_STREAMS = 256

export interface GatewayServer {
  readonly server: HttpServer
  /** Takes what may change while connections are open. */
  update(settings: Pick<GatewaySettings, 'connections' | 'answerRate'>): void
  /** No new request; ends idle connections. Resolves when the last one has ended. */
  close(timeout: number): Promise<void>
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function openGatewayServer(
  front: GatewayHandlers,
  settings: GatewaySettings,
): GatewayServer {
  const certificates = settings.tls && new Certificates(settings.tls)
  const server = certificates
    ? createTlsServer(certificates, settings)
    : createHttp(httpServerOptions(settings))
  server.maxConnections = settings.connections
  // Zero is no limit: beyond one, node:http drops headers in silence. Their size is limited.
  server.maxHeadersCount = 0
  // A client may close its half and still want its answer; node:http would drop it.
  allowHalfOpenHttp(server)
  attachHttp1(server, front)
  const readers = new SlowReaderMonitor(settings.answerRate)
  const two = settings.http2 ? createHttp2Server(front, settings, readers) : undefined
  shareConnections(server, two, { isTls: certificates !== undefined, settings, front })
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    readers.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  // What goes wrong with one connection that was to be accepted is no matter of the others.
  server.on('error', () => undefined)
  return {
    server,
    update({ connections, answerRate }) {
      server.maxConnections = connections
      readers.rate = answerRate
    },
    close: async (timeout) => {
      certificates?.close()
      await closeAll(server, two?.sessions.all ?? [], sockets, timeout)
    },
  }
}

function httpServerOptions(settings: GatewaySettings) {
  return {
    maxHeaderSize: settings.headerSize,
    headersTimeout: settings.headerTime,
    // How long a body may take is a matter of its size: `bodyRate`.
    requestTimeout: 0,
    keepAliveTimeout: settings.keepAlive,
    connectionsCheckingInterval: Math.min(1_000, settings.headerTime),
    // We say it ourselves, as a problem.
    requireHostHeader: false,
    noDelay: true,
    // Finds clients that vanished without a word.
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
      // As node:http has it without TLS.
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

function attachHttp1(server: HttpServer, front: GatewayHandlers): void {
  server.on('request', front.onRequest)
  server.on('checkContinue', front.onContinue)
  server.on('checkExpectation', front.onRequest)
  server.on('connect', (_request, socket: Duplex) => {
    socket.on('error', () => undefined)
    const words = renderErrorResponse(405, 'Method Not Allowed', 'CONNECT is not for a gateway')
    afterResponses(socket, () => closeLingering(socket, words))
  })
  server.on('clientError', onClientError)
}

/** What is said to a client that did not speak HTTP. */
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
  front: GatewayHandlers,
  settings: GatewaySettings,
  readers: SlowReaderMonitor,
): Http2Parts {
  const server = createHttp2({
    maxSessionMemory: 10,
    // What is a little above is refused by us, with an answer; what is far above, by node:http2 without one.
    maxHeaderListPairs: settings.headerCount + 64,
    settings: {
      maxConcurrentStreams: MAX_STREAMS,
      maxHeaderListSize: settings.headerSize,
      enableConnectProtocol: true,
    },
  })
  server.on('request', front.onRequest as unknown as Http2Handler)
  server.on('checkContinue', front.onContinue as unknown as Http2Handler)
  server.on('connect', front.onConnect as unknown as Http2Handler)
  return { server, sessions: watchHttp2Sessions(server, settings.keepAlive, readers) }
}

/** Whoever is meant by a connection gets it as if it had come there. */
function shareConnections(
  server: HttpServer,
  two: Http2Parts | undefined,
  { isTls, settings, front }: { isTls: boolean; settings: GatewaySettings; front: GatewayHandlers },
): void {
  const event = isTls ? 'secureConnection' : 'connection'
  const [one] = server.listeners(event) as [(socket: Socket) => void]
  server.removeListener(event, one)
  const give = (socket: Socket, isTwo: boolean): void => {
    if (two && isTwo) {
      two.sessions.expect(socket)
      two.server.emit('connection', socket)
      return
    }
    one.call(server, socket)
    socket.on('end', () => watchHalfClosedHttp(socket))
  }
  server.on('upgrade', (request, socket: Socket, head) => {
    socket.on('error', ignore)
    afterResponses(socket, () => {
      if (requestedProtocols(request) !== undefined) return front.onUpgrade(request, socket, head)
      socket.off('error', ignore)
      // Else the time that an idle connection has would go on.
      socket.setTimeout(0)
      const bytes = serializeWithoutUpgrade(request, head)
      if (!socket.readableEnded) socket.unshift(bytes)
      one.call(server, socket)
      // Its client stopped sending while others of its requests were answered: nothing can be put back any more.
      if (!socket.readableEnded) return
      socket.emit('data', bytes)
      socket.emit('end')
    })
  })
  if (isTls) server.on(event, (socket: TLSSocket) => give(socket, socket.alpnProtocol === 'h2'))
  else if (!two) server.on(event, (socket: Socket) => give(socket, false))
  else server.on(event, (socket: Socket) => detectHttp2(socket, settings.headerTime, give))
}

function ignore(): void {}

/** Ends as politely as `timeout` allows. */
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
  // Connections that have not asked for anything yet; a request may be on its way to those that are new.
  const silent = [...sockets].filter(({ bytesRead }) => bytesRead === 0)
  const silence = afterUnref(SILENT_CONNECTION_MS, () => {
    for (const socket of silent) if (socket.bytesRead === 0) socket.destroy()
  })
  // Those whose answers had begun before stay open after them.
  const looks = every(50, () => server.closeIdleConnections())
  const timer = afterUnref(timeout, () => {
    for (const socket of sockets) socket.destroy()
  })
  await ended
  looks.clear()
  silence.clear()
  timer.clear()
}

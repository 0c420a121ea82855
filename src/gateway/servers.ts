/** The servers under the gateway: HTTP/1.1 and HTTP/2 on one port, with and without TLS. */
import {
  createServer as createHttp,
  type Server as HttpServer,
  type IncomingMessage,
} from 'node:http'
import {
  createServer as createHttp2,
  createSecureServer,
  type Http2Server,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from 'node:http2'
import { createServer as createTcp, type Server as NetServer, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { afterIdly } from '../time.ts'
import type { Front as WholeFront } from './gateway.ts'
import type { GatewaySettings } from './options.ts'
import { onHalfClose } from './relay.ts'
import { Certificates } from './tls.ts'

/** What the servers need of it. */
type Front = Pick<WholeFront, 'onRequest' | 'onContinue' | 'onUpgrade'>

export interface Door {
  readonly server: NetServer
  /** No new request; ends idle connections. Resolves when the last one has ended. */
  close(timeout: number): Promise<void>
}

/** The beginning of HTTP/2's preface: no HTTP/1.1 request begins like it. */
const PREFACE = Buffer.from('PRI ')

export function openDoor(front: Front, settings: GatewaySettings): Door {
  return settings.tls ? tlsDoor(front, settings, settings.tls) : plainDoor(front, settings)
}

function http1(front: Front, settings: GatewaySettings): HttpServer {
  const server = createHttp({
    maxHeaderSize: settings.headerSize,
    headersTimeout: settings.headerTime,
    // How long a body may take is a matter of its size: `bodyRate`.
    requestTimeout: 0,
    keepAliveTimeout: settings.keepAlive,
    connectionsCheckingInterval: Math.min(1_000, settings.headerTime),
    noDelay: true,
  })
  // A client may close its half and still want its answer; node:http would drop it.
  Reflect.set(server, 'httpAllowHalfOpen', true)
  attach(server, front)
  server.on('connection', (socket: Socket) => socket.on('end', () => onHalfClose(socket)))
  return server
}

function attach(server: HttpServer, front: Front): void {
  server.on('request', front.onRequest)
  server.on('checkContinue', front.onContinue)
  server.on('checkExpectation', front.onRequest)
  server.on('upgrade', front.onUpgrade)
  server.on('connect', (_request: IncomingMessage, socket: Duplex) => {
    refuse(
      socket,
      405,
      'Method Not Allowed',
      'MANYHOST_BAD_REQUEST',
      'CONNECT is not for a gateway',
    )
  })
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Duplex) => {
    if (!socket.writable || error.code === 'ECONNRESET') {
      socket.destroy()
      return
    }
    if (error.code === 'HPE_HEADER_OVERFLOW') {
      refuse(
        socket,
        431,
        'Request Header Fields Too Large',
        'MANYHOST_BAD_REQUEST',
        'the headers are too large',
      )
    } else if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT') {
      refuse(socket, 408, 'Request Timeout', 'MANYHOST_BAD_REQUEST', 'the headers came too slowly')
    } else {
      refuse(
        socket,
        400,
        'Bad Request',
        'MANYHOST_BAD_REQUEST',
        'the request is not well-formed HTTP',
      )
    }
  })
}

/** An answer to what never became a request. */
function refuse(socket: Duplex, status: number, text: string, code: string, detail: string): void {
  const body = JSON.stringify({
    type: `urn:manyhost:error:${code}`,
    title: text,
    status,
    detail,
    code,
  })
  socket.end(
    `HTTP/1.1 ${status} ${text}\r\ncontent-type: application/problem+json\r\n` +
      `content-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  )
}

type Handler2 = (request: Http2ServerRequest, response: Http2ServerResponse) => void

function plainDoor(front: Front, settings: GatewaySettings): Door {
  const one = http1(front, settings)
  if (!settings.http2) {
    one.maxConnections = settings.connections
    return { server: one, close: (timeout) => closeAll(one, one, new Set(), timeout) }
  }
  const two = createHttp2({ maxSessionMemory: 10 })
  two.on('request', front.onRequest as unknown as Handler2)
  const sessions = track(two)
  // Both look at the first bytes of a connection; whoever is meant gets it as if it had come there.
  const server = createTcp({ allowHalfOpen: true, noDelay: true }, (socket) => {
    const onError = (): void => void socket.destroy()
    socket.on('error', onError)
    socket.setTimeout(settings.headerTime, onError)
    socket.once('readable', () => {
      socket.setTimeout(0)
      socket.off('timeout', onError)
      const first = socket.read() as Buffer | null
      if (first === null) {
        socket.destroy()
        return
      }
      socket.unshift(first)
      const isTwo = first.subarray(0, 4).equals(PREFACE)
      ;(isTwo ? two : one).emit('connection', socket)
    })
  })
  server.maxConnections = settings.connections
  return { server, close: (timeout) => closeAll(server, one, sessions, timeout) }
}

function tlsDoor(
  front: Front,
  settings: GatewaySettings,
  files: NonNullable<GatewaySettings['tls']>,
): Door {
  const certificates = new Certificates(files)
  const server = createSecureServer({
    ...certificates.load(),
    allowHTTP1: true,
    maxSessionMemory: 10,
    maxHeaderSize: settings.headerSize,
    ...(!settings.http2 && { ALPNProtocols: ['http/1.1'] }),
  } as Parameters<typeof createSecureServer>[0])
  attach(server as unknown as HttpServer, front)
  server.maxConnections = settings.connections
  const sessions = track(server)
  certificates.watch((loaded) => server.setSecureContext(loaded))
  return {
    server,
    close: async (timeout) => {
      certificates.close()
      await closeAll(server, undefined, sessions, timeout)
    },
  }
}

function track(
  server: Http2Server | ReturnType<typeof createSecureServer>,
): Set<ServerHttp2Session> {
  const sessions = new Set<ServerHttp2Session>()
  server.on('session', (session) => {
    sessions.add(session)
    session.once('close', () => sessions.delete(session))
    session.on('error', () => session.destroy())
  })
  return sessions
}

/** Ends as politely as `timeout` allows. */
async function closeAll(
  server: NetServer,
  one: HttpServer | undefined,
  sessions: ReadonlySet<ServerHttp2Session>,
  timeout: number,
): Promise<void> {
  const ended = new Promise<void>((resolve) => {
    server.close(() => resolve())
  })
  one?.closeIdleConnections()
  for (const session of sessions) session.close()
  const timer = afterIdly(timeout, () => {
    one?.closeAllConnections()
    for (const session of sessions) session.destroy()
  })
  await ended
  timer.clear()
}

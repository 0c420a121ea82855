/** Ends HTTP/2 connections, with their streams, when the client has ended the connection, has vanished, or is frozen. */
import type { Http2Server, ServerHttp2Session, ServerHttp2Stream } from 'node:http2'
import type { Socket } from 'node:net'
import type { SlowReaderMonitor } from '../core/http/slow-reader-monitor.ts'
import { afterUnref, every, type Timer } from '../core/time.ts'

const CHECK_INTERVAL = 1_000
/** Checks in a row without a byte from a client that waits for responses, after which it gets a PING. */
const SILENT_CHECKS_TO_PING = 20
/** Checks in a row without a byte after which it is disconnected. */
const SILENT_CHECKS_TO_CUT = 40
/** Milliseconds in which a client may end its half of the connection after the server has ended it. */
const LINGER = 5_000

interface SessionWatch {
  readonly socket: Socket
  streams: number
  /** Bytes received at the last check. */
  received: number
  silentChecks: number
}

export interface Http2Sessions {
  readonly all: Iterable<ServerHttp2Session>
  /** Must be called for a connection before the server gets it. */
  expect(socket: Socket): void
}

export function watchHttp2Sessions(
  server: Http2Server,
  keepAlive: number,
  readers: SlowReaderMonitor,
): Http2Sessions {
  const watches = new Map<ServerHttp2Session, SessionWatch>()
  let timer: Timer | undefined
  let expectedSocket: Socket | undefined

  const check = (): void => {
    for (const [session, watch] of watches) {
      const { bytesRead } = watch.socket
      if (watch.streams === 0 || bytesRead !== watch.received) watch.silentChecks = 0
      else if (++watch.silentChecks === SILENT_CHECKS_TO_PING) pingSession(session)
      else if (watch.silentChecks >= SILENT_CHECKS_TO_CUT) session.destroy()
      watch.received = bytesRead
    }
  }

  server.on('sessionError', () => undefined)
  server.on('session', (session) => {
    const watch = { socket: expectedSocket as Socket, streams: 0, received: 0, silentChecks: 0 }
    watches.set(session, watch)
    timer ??= every(CHECK_INTERVAL, check)
    session.once('close', () => {
      watches.delete(session)
      if (watches.size > 0) return
      timer?.clear()
      timer = undefined
    })
    session.on('error', () => session.destroy())
    session.setTimeout(keepAlive, () => session.close())
    session.on('stream', (stream: ServerHttp2Stream) => {
      watch.streams++
      stream.once('close', () => {
        watch.streams--
      })
      readers.addStream(stream)
    })
  })

  return {
    all: { [Symbol.iterator]: () => watches.keys() },
    expect(socket) {
      expectedSocket = socket
      // Unlike HTTP/1.1, HTTP/2 has no half-closed connections: a client that ends one reads no more responses.
      socket.once('end', () => socket.destroy())
      // node:http2 ends a connection in order, and then waits for the client, which may be frozen.
      socket.once('finish', () => {
        const linger = afterUnref(LINGER, () => socket.destroy())
        socket.once('close', () => linger.clear())
      })
    },
  }
}

function pingSession(session: ServerHttp2Session): void {
  try {
    session.ping(() => undefined)
  } catch {
    // It is being closed.
  }
}

/** Connections of HTTP/2: each ends when its client has ended it, has vanished, or is frozen, and its streams with it. */
import type { Http2Server, ServerHttp2Session, ServerHttp2Stream } from 'node:http2'
import type { Socket } from 'node:net'
import type { SlowReaderMonitor } from '../core/http/slow-reader-monitor.ts'
import { afterUnref, every, type Timer } from '../core/time.ts'

const CHECK_INTERVAL = 1_000
/** Looks in a row without a byte of a client that waits for answers, after which it is asked by PING whether it lives. */
const SILENT_CHECKS_TO_PING = 20
/** Looks in a row after which it is cut off. */
const SILENT_CHECKS_TO_CUT = 40
/** Milliseconds in which a client may end its connection, after the server has ended it. */
const LINGER = 5_000

interface SessionWatch {
  readonly socket: Socket
  streams: number
  /** Bytes that had come when it was last looked at. */
  received: number
  silent: number
}

export interface Http2Sessions {
  readonly all: Iterable<ServerHttp2Session>
  /** To be called for a connection before the server gets it. */
  expect(socket: Socket): void
}

export function watchHttp2Sessions(
  server: Http2Server,
  keepAlive: number,
  readers: SlowReaderMonitor,
): Http2Sessions {
  const watches = new Map<ServerHttp2Session, SessionWatch>()
  let timer: Timer | undefined
  let taken: Socket | undefined

  const look = (): void => {
    for (const [session, watch] of watches) {
      const { bytesRead } = watch.socket
      if (watch.streams === 0 || bytesRead !== watch.received) watch.silent = 0
      else if (++watch.silent === SILENT_CHECKS_TO_PING) pingSession(session)
      else if (watch.silent >= SILENT_CHECKS_TO_CUT) session.destroy()
      watch.received = bytesRead
    }
  }

  server.on('sessionError', () => undefined)
  server.on('session', (session) => {
    const watch = { socket: taken as Socket, streams: 0, received: 0, silent: 0 }
    watches.set(session, watch)
    timer ??= every(CHECK_INTERVAL, look)
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
      taken = socket
      // Unlike HTTP/1.1, HTTP/2 has no half-closed connections: who ends one does not read answers.
      socket.once('end', () => socket.destroy())
      // node:http2 ends a connection in order, and then waits for a client that may be frozen.
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

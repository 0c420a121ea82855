/**
 * Holds clients to a least pace while bytes wait to be written to them. One timer looks at all connections, so that an
 * answer costs nothing more. It counts only what waits: an event stream that has nothing to say is never too slow.
 *
 * A slow reader is seen in steps. A kernel wakes a writer when a third of its send buffer is free, which may be more
 * than a megabyte; a client's kernel opens a closed window by a sixteenth of its buffer. So progress is what the client's
 * kernel has acknowledged, where the system tells it; where it does not, and for streams of HTTP/2 whose windows are
 * large, more time is given.
 */
import type { ServerHttp2Stream } from 'node:http2'
import { constants } from 'node:http2'
import type { Socket } from 'node:net'
import { every, type Timer } from '../time.ts'
import { writeProgressOf } from './node-internals.ts'
import { resetConnection } from './reset-connection.ts'
import { readTcpQueues, tcpQueueKey } from './tcp-queues.ts'

const READER_CHECK_INTERVAL = 1_000
/** Looks in a row that may see less than the least pace. They are counted, so that a standstill of ours is one look. */
const MAX_SLOW_CHECKS = 10
/** The same where steps are large, or cannot be seen. */
const MAX_SLOW_CHECKS_UNSEEN = 60
/** Pieces of a stream, of up to 64 KiB, that were taken: more do not fit into a window of the usual size. */
const MIN_LARGE_PIECES = 16

interface ReadProgress {
  /** Bytes, or pieces, that had left when it was last looked at. */
  sent: number
  /** Bytes that the client's kernel had acknowledged then; undefined if that was not asked. */
  acknowledged: number | undefined
  slow: number
}

const DRAINS = Symbol('pieces that were taken')
type MonitoredStream = ServerHttp2Stream & { [DRAINS]?: number }

export class SlowReaderMonitor {
  /** Bytes a second; 0 for as slow as they like. */
  rate: number
  readonly #sockets = new Set<Socket>()
  readonly #streams = new Set<MonitoredStream>()
  readonly #progress = new Map<Socket | MonitoredStream, ReadProgress>()
  #timer: Timer | undefined

  constructor(rate: number) {
    this.rate = rate
  }

  /** Watches a connection until it closes. */
  add(socket: Socket): void {
    this.#sockets.add(socket)
    socket.once('close', () => this.#remove(this.#sockets, socket))
    this.#timer ??= every(READER_CHECK_INTERVAL, () => this.#checkAll())
  }

  /** Watches one answer of a connection of HTTP/2, which has a window of its own. */
  addStream(stream: ServerHttp2Stream): void {
    this.#streams.add(stream)
    stream.on('drain', countDrain)
    stream.once('close', () => this.#remove(this.#streams, stream))
  }

  #remove<T extends Socket | MonitoredStream>(set: Set<T>, one: T): void {
    set.delete(one)
    this.#progress.delete(one)
    if (this.#sockets.size > 0) return
    this.#timer?.clear()
    this.#timer = undefined
  }

  #checkAll(): void {
    const minBytes = (this.rate * READER_CHECK_INTERVAL) / 1_000
    const slow: Socket[] = []
    for (const socket of this.#sockets) {
      if (!isWaiting(socket) || this.rate === 0) this.#progress.delete(socket)
      else if (this.#isSlow(socket, sentBytesOf(socket), minBytes)) slow.push(socket)
    }
    if (slow.length > 0) this.#checkAcknowledged(slow, minBytes)
    for (const stream of this.#streams) {
      const taken = stream[DRAINS] ?? 0
      if (stream.writableLength === 0 || this.rate === 0) this.#progress.delete(stream)
      // A piece that was taken is progress, whatever its size: how far one has come is not to be seen.
      else if (this.#isSlow(stream, taken, 1)) {
        const maxSlowChecks = taken > MIN_LARGE_PIECES ? MAX_SLOW_CHECKS_UNSEEN : MAX_SLOW_CHECKS
        if ((this.#progress.get(stream)?.slow ?? 0) >= maxSlowChecks) cutStream(stream)
      }
    }
  }

  /** Whether nothing, or too little, has left since the last look. */
  #isSlow(one: Socket | MonitoredStream, sent: number, minBytes: number): boolean {
    const progress = this.#progress.get(one)
    if (!progress) {
      this.#progress.set(one, { sent, acknowledged: undefined, slow: 0 })
      return false
    }
    const isSlow = sent - progress.sent < minBytes
    progress.slow = isSlow ? progress.slow + 1 : 0
    progress.sent = sent
    return isSlow
  }

  /** Of those from which our kernel takes nothing, the client's may still take something. */
  #checkAcknowledged(slow: readonly Socket[], minBytes: number): void {
    const queues = readTcpQueues()
    for (const socket of slow) {
      const progress = this.#progress.get(socket)
      if (!progress) continue
      const queued = queues?.get(tcpQueueKey(socket) ?? '')
      const acknowledged = queued === undefined ? undefined : progress.sent - queued
      if (
        acknowledged !== undefined &&
        progress.acknowledged !== undefined &&
        acknowledged - progress.acknowledged >= minBytes
      ) {
        progress.slow = 0
      }
      progress.acknowledged = acknowledged
      const maxSlowChecks = acknowledged === undefined ? MAX_SLOW_CHECKS_UNSEEN : MAX_SLOW_CHECKS
      if (progress.slow >= maxSlowChecks) resetConnection(socket)
    }
  }
}

function countDrain(this: MonitoredStream): void {
  this[DRAINS] = (this[DRAINS] ?? 0) + 1
}

function isWaiting(socket: Socket): boolean {
  return socket.writableLength > 0 || (writeProgressOf(socket)?.writeQueueSize ?? 0) > 0
}

/** Bytes that the kernel has taken. One large write is one step for the stream, and many for its handle. */
function sentBytesOf(socket: Socket): number {
  const progress = writeProgressOf(socket)
  return progress
    ? progress.bytesWritten - progress.writeQueueSize
    : socket.bytesWritten - socket.writableLength
}

function cutStream(stream: MonitoredStream): void {
  stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM)
}

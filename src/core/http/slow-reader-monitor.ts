/**
 * Cuts the connections of clients that read too slowly while bytes wait to be written to them. One timer checks all
 * connections, so that a response costs nothing more. An event stream that has nothing to send is never too slow.
 *
 * The progress of a slow reader comes in steps. This machine's kernel wakes a writer when a third of the send buffer is free,
 * which may be more than a megabyte; the client's kernel opens a closed window by a sixteenth of its buffer. So progress is
 * what the client's kernel has acknowledged, where the system says so. Elsewhere, and for streams of HTTP/2 with large
 * windows, a client gets more time.
 */
import type { ServerHttp2Stream } from 'node:http2'
import { constants } from 'node:http2'
import type { Socket } from 'node:net'
import { every, type Timer } from '../time.ts'
import { writeProgressOf } from './node-internals.ts'
import { resetConnection } from './reset-connection.ts'
import { readTcpQueues, tcpQueueKey } from './tcp-queues.ts'

const READER_CHECK_INTERVAL = 1_000
/** Checks in a row that may find less than the minimum rate. A standstill of this process counts as one check. */
const MAX_SLOW_CHECKS = 10
/** The same where the steps are large, or cannot be seen. */
const MAX_SLOW_CHECKS_UNSEEN = 60
/** A stream that has sent more pieces of up to 64 KiB than this has a window that is larger than usual. */
const MIN_LARGE_PIECES = 16

interface ReadProgress {
  /** Bytes, or pieces, that had been sent at the last check. */
  sent: number
  /** Bytes that the client's kernel had acknowledged at that time; undefined if that is not known. */
  acknowledged: number | undefined
  slow: number
}

const DRAINS = Symbol('drain events of the stream')
type MonitoredStream = ServerHttp2Stream & { [DRAINS]?: number }

export class SlowReaderMonitor {
  /** Bytes per second that a client must take; 0 for no minimum. */
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

  /** Watches one response of HTTP/2, which has a window of its own. */
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
      // A piece that was taken is progress, whatever its size: progress within a piece cannot be seen.
      else if (this.#isSlow(stream, taken, 1)) {
        const maxSlowChecks = taken > MIN_LARGE_PIECES ? MAX_SLOW_CHECKS_UNSEEN : MAX_SLOW_CHECKS
        if ((this.#progress.get(stream)?.slow ?? 0) >= maxSlowChecks) cutStream(stream)
      }
    }
  }

  /** Whether too little was sent since the last check. */
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

  /** This machine's kernel takes nothing for these sockets, but their clients' kernels may still acknowledge something. */
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

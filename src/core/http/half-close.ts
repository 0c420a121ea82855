/**
 * Finds out whether a client of HTTP/1.1 that has ended its half of the connection still waits for its response, or is gone.
 * Both look the same (RFC 9293 section 3.6). Four means tell them apart:
 *
 * 1. `100 Continue`. Every client of HTTP/1.1 skips it (RFC 9110 section 15.2); the kernel of a client that is gone answers it
 *    with a reset. It is sent before the response's head only, not to HEAD or HTTP/1.0, not in the first seconds, and only a
 *    few times, because clients bound the number of informational responses.
 * 2. Probes of TCP keepalive. A client does not see them. They are answered with a reset as well, but only when the kernel has
 *    forgotten the client's end of the connection, which takes a minute on Linux.
 * 3. A write of no bytes. It sends nothing, and fails after a reset. libuv does not read after the end of the client's half,
 *    so nothing else would report the reset.
 * 4. Silence. In the middle of a response nothing but the response may be sent. If the response has no bytes for some seconds,
 *    as a silent event stream, the client is taken for gone, unless (1) has proven that it waits.
 */
import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { afterUnref } from '../time.ts'
import { allowHalfOpenHttp, currentResponse, transportOf } from './node-internals.ts'

/** Milliseconds between two checks. */
const CHECK_INTERVAL = 1_000
/** Milliseconds between a `100 Continue` and the check whether it was answered with a reset. */
const ROUND_TRIP = 20
/** Checks after which `100 Continue` is sent. Go's client accepts five informational responses. */
const CONTINUE_CHECKS: ReadonlySet<number> = new Set([3, 10, 30, 60])
/** Checks in a row that may find no new byte of a response that has begun. */
const MAX_SILENT_CHECKS = 5
/** Milliseconds until the first probe of TCP keepalive. */
const KEEPALIVE_INTERVAL = 5_000

/** Call this at the `end` of a connection of HTTP/1.1 whose server accepts half-closed connections. */
export function watchHalfClosedHttp(socket: Duplex & { readonly bytesWritten?: number }): void {
  if ('setKeepAlive' in socket) (socket as unknown as Socket).setKeepAlive(true, KEEPALIVE_INTERVAL)
  let checks = 0
  let silent = 0
  let written = -1
  let wasAsked = false
  let hasProven = false
  const check = (): void => {
    const response = currentResponse(socket)
    // The connection ends with its last response.
    if (!response || socket.destroyed || socket.writableEnded) return
    // (3) A reset that came since the last check ends the connection here.
    writeEmptyChunk(socket)
    let pause = CHECK_INTERVAL
    if (!response.headersSent) {
      hasProven = wasAsked
      const { httpVersion, method } = response.req
      // (1)
      if (CONTINUE_CHECKS.has(checks) && httpVersion === '1.1' && method !== 'HEAD') {
        response.writeContinue()
        wasAsked = true
        pause = ROUND_TRIP
      }
      checks++
    } else if (!hasProven && socket.writableLength === 0) {
      // (4)
      silent = socket.bytesWritten === written ? silent + 1 : 0
      written = socket.bytesWritten ?? 0
      if (silent >= MAX_SILENT_CHECKS) return void socket.destroy()
    }
    afterUnref(pause, check)
  }
  check()
}

/** Call this at the `end` of a tunnel, on which nothing but data may be sent. Finds by (2) and (3) that its peer is gone. */
export function watchHalfClosedTunnel(socket: Duplex): void {
  if ('setKeepAlive' in socket) (socket as unknown as Socket).setKeepAlive(true, KEEPALIVE_INTERVAL)
  const check = (): void => {
    if (socket.destroyed || socket.writableEnded) return
    writeEmptyChunk(socket)
    afterUnref(CHECK_INTERVAL, check)
  }
  check()
}

/** node:tls drops a write of no bytes, so it goes to the connection below. */
function writeEmptyChunk(socket: Duplex): void {
  const below = transportOf(socket)
  if (!below.destroyed && !below.writableEnded) below.write('')
}

/** Lets clients of a server end their half of the connection and still get their responses. TLS needs `allowHalfOpen`, too. */
export function allowHalfClose(server: Server): void {
  allowHalfOpenHttp(server)
  const event = 'setSecureContext' in server ? 'secureConnection' : 'connection'
  server.on(event, (socket: Duplex) => {
    socket.on('end', () => watchHalfClosedHttp(socket))
  })
}

/**
 * A client of HTTP/1.1 has sent its last byte, and an answer is still to come. It may want that answer, or be gone: both
 * look the same (RFC 9293 section 3.6). Four things tell them apart, each with its cost:
 *
 * 1. `100 Continue`, which every client of HTTP/1.1 skips (RFC 9110 section 15.2): a client that is gone answers it
 *    with a reset. It is sent before the head only, not to HEAD or HTTP/1.0, not in the first seconds, and a few times
 *    only: clients bound how many interim answers they take.
 * 2. A probe of TCP's keepalive sends nothing that a client sees. It is answered with a reset as well, but not before
 *    the kernel has forgotten the client's end of the connection, which takes a minute on Linux.
 * 3. A write of no bytes sends nothing, and fails after a reset. libuv does not read after the end, so nothing else
 *    would report a reset.
 * 4. In the middle of an answer nothing may be sent but the answer. If nothing of it is to be sent for some seconds, as
 *    on a silent event stream, the client is taken for gone; not if it has proven by (1) that it waits.
 */
import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { afterUnref } from '../time.ts'
import { allowHalfOpenHttp, currentResponse, transportOf } from './node-internals.ts'

/** Milliseconds between two looks. */
const CHECK_INTERVAL = 1_000
/** Milliseconds between a `100 Continue` and the look whether it was answered with a reset. */
const ROUND_TRIP = 20
/** Looks after which `100 Continue` is sent. Go's client takes five interim answers. */
const CONTINUE_CHECKS: ReadonlySet<number> = new Set([3, 10, 30, 60])
/** Looks in a row that may see no byte of a begun answer. */
const MAX_SILENT_CHECKS = 5
/** Milliseconds until TCP's keepalive probes, and between its probes. */
const KEEPALIVE_INTERVAL = 5_000

/** To be called at the `end` of a connection of HTTP/1.1 whose server takes half-closed ones. */
export function watchHalfClosedHttp(socket: Duplex & { readonly bytesWritten?: number }): void {
  if ('setKeepAlive' in socket) (socket as unknown as Socket).setKeepAlive(true, KEEPALIVE_INTERVAL)
  let looks = 0
  let silent = 0
  let written = -1
  let wasAsked = false
  let hasProven = false
  const look = (): void => {
    const response = currentResponse(socket)
    // With its last answer the connection ends.
    if (!response || socket.destroyed || socket.writableEnded) return
    // (3) A reset that came since the last look ends the connection here.
    writeEmptyChunk(socket)
    let pause = CHECK_INTERVAL
    if (!response.headersSent) {
      hasProven = wasAsked
      const { httpVersion, method } = response.req
      // (1)
      if (CONTINUE_CHECKS.has(looks) && httpVersion === '1.1' && method !== 'HEAD') {
        response.writeContinue()
        wasAsked = true
        pause = ROUND_TRIP
      }
      looks++
    } else if (!hasProven && socket.writableLength === 0) {
      // (4)
      silent = socket.bytesWritten === written ? silent + 1 : 0
      written = socket.bytesWritten ?? 0
      if (silent >= MAX_SILENT_CHECKS) return void socket.destroy()
    }
    afterUnref(pause, look)
  }
  look()
}

/** To be called at the `end` of a connection on which nothing but data may be sent: finds by (2) and (3) that its peer is gone. */
export function watchHalfClosedTunnel(socket: Duplex): void {
  if ('setKeepAlive' in socket) (socket as unknown as Socket).setKeepAlive(true, KEEPALIVE_INTERVAL)
  const look = (): void => {
    if (socket.destroyed || socket.writableEnded) return
    writeEmptyChunk(socket)
    afterUnref(CHECK_INTERVAL, look)
  }
  look()
}

/** node:tls keeps a write of no bytes to itself, so the connection below gets it. */
function writeEmptyChunk(socket: Duplex): void {
  const below = transportOf(socket)
  if (!below.destroyed && !below.writableEnded) below.write('')
}

/** Lets clients of a server close their half and still get their answers. Without TLS; with it, `allowHalfOpen` is an option, too. */
export function allowHalfClose(server: Server): void {
  allowHalfOpenHttp(server)
  const event = 'setSecureContext' in server ? 'secureConnection' : 'connection'
  server.on(event, (socket: Duplex) => {
    socket.on('end', () => watchHalfClosedHttp(socket))
  })
}

/** Tells by the first bytes of a connection whether its client speaks HTTP/2 (prior knowledge) or HTTP/1.1. */
import type { Socket } from 'node:net'
import { afterUnref } from '../core/time.ts'

/** The beginning of the HTTP/2 preface. No HTTP/1.1 request begins with it. */
const PREFACE = Buffer.from('PRI ')

/**
 * Calls `accept` when it is known, with a socket that has not lost a byte.
 * @param timeout milliseconds in which the first bytes must arrive; then the connection is closed
 */
export function detectHttp2(
  socket: Socket,
  timeout: number,
  accept: (socket: Socket, isHttp2: boolean) => void,
): void {
  let held: Buffer | undefined
  const end = (): void => void socket.destroy()
  const onReadable = (): void => {
    const chunk = socket.read() as Buffer | null
    if (chunk === null) return
    held = held ? Buffer.concat([held, chunk]) : chunk
    const begun = held.subarray(0, PREFACE.length)
    const isHttp2 = PREFACE.subarray(0, begun.length).equals(begun)
    // A fragment can still become either: POST begins with a P as well.
    if (isHttp2 && begun.length < PREFACE.length) return
    socket.off('readable', onReadable)
    socket.off('error', end)
    socket.off('end', end)
    socket.off('close', forget)
    timer.clear()
    socket.unshift(held)
    accept(socket, isHttp2)
  }
  socket.on('error', end)
  socket.on('end', end)
  const timer = afterUnref(timeout, end)
  const forget = (): void => timer.clear()
  socket.on('close', forget)
  socket.on('readable', onReadable)
}

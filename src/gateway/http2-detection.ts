/** Tells HTTP/2 by prior knowledge from HTTP/1.1 by the first bytes of a connection. */
import type { Socket } from 'node:net'
import { afterUnref } from '../core/time.ts'

/** The beginning of HTTP/2's preface: no HTTP/1.1 request begins like it. */
const PREFACE = Buffer.from('PRI ')

/** @param timeout milliseconds for the first bytes */
export function detectHttp2(
  socket: Socket,
  timeout: number,
  give: (socket: Socket, isTwo: boolean) => void,
): void {
  let held: Buffer | undefined
  const end = (): void => void socket.destroy()
  const onReadable = (): void => {
    const chunk = socket.read() as Buffer | null
    if (chunk === null) return
    held = held ? Buffer.concat([held, chunk]) : chunk
    const begun = held.subarray(0, PREFACE.length)
    const isLike = PREFACE.subarray(0, begun.length).equals(begun)
    // A fragment may still become either: POST begins with a P as well.
    if (isLike && begun.length < PREFACE.length) return
    socket.off('readable', onReadable)
    socket.off('error', end)
    socket.off('end', end)
    socket.off('close', forget)
    timer.clear()
    socket.unshift(held)
    give(socket, isLike)
  }
  socket.on('error', end)
  socket.on('end', end)
  const timer = afterUnref(timeout, end)
  const forget = (): void => timer.clear()
  socket.on('close', forget)
  socket.on('readable', onReadable)
}

/**
 * A websocket cannot end one half of a connection alone: a close ends both. So the end of our own half is not passed on,
 * and the other half is read until the other side closes it, or is silent for a long time.
 */
import type { Duplex } from 'node:stream'
import { every } from '../../src/core/time.ts'

/** The connection is closed after this time of silence, in ms. */
const MAX_SILENCE_MS = 60_000

/**
 * Call this when nothing more will be written to `stream`.
 * @param received gives the number of bytes that have come so far
 */
export function closeWhenSilent(stream: Duplex, received: () => number): void {
  if (stream.destroyed) return
  if (stream.readableEnded) return void stream.destroy()
  let before = received()
  const timer = every(MAX_SILENCE_MS, () => {
    const now = received()
    if (now === before) stream.destroy()
    before = now
  })
  stream.once('close', () => timer.clear())
}

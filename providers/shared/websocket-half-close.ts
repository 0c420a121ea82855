/**
 * Connections through a websocket cannot end one half alone: a close ends both. So the end of what was written is not
 * passed on, and what the other side still sends is read until it closes, or is silent for long.
 */
import type { Duplex } from 'node:stream'
import { every } from '../../src/core/time.ts'

/** Milliseconds of silence after which the connection is closed. */
const MAX_SILENCE_MS = 60_000

/**
 * To be called when nothing more is to be written to `stream`.
 * @param received answers how much has come so far
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

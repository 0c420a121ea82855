/**
 * A tunnel: two connections that pass bytes, ends and failures to each other. Once one side has ended its half, the other
 * side may go on sending, but not without limit: the side that has ended may be gone, which only a write would show.
 */
import type { Duplex } from 'node:stream'
import { afterUnref, now, type Timer } from '../core/time.ts'

/** Maximum `tunnelLinger` of a WebSocket, in ms: its sides announce the end by a close frame, and then end at once. */
const MAX_WEBSOCKET_LINGER = 5_000

/** Milliseconds without data for which a half-closed tunnel stays open. */
export function chooseLinger(protocol: string | undefined, tunnelLinger: number): number {
  const isWebSocket = protocol?.trim().toLowerCase() === 'websocket'
  return isWebSocket ? Math.min(tunnelLinger, MAX_WEBSOCKET_LINGER) : tunnelLinger
}

/** @param linger once one side has ended: milliseconds without data after which both are closed */
export function joinStreams(one: Duplex, other: Duplex, linger: number): void {
  const half = new HalfClosedTunnel(one, other, linger)
  pipeOneWay(one, other, half)
  pipeOneWay(other, one, half)
}

function pipeOneWay(from: Duplex, to: Duplex, half: HalfClosedTunnel): void {
  // A socket of undici would otherwise end its half as soon as the instance ends the other one.
  from.allowHalfOpen = true
  from.pipe(to)
  from.on('error', () => to.destroy())
  from.once('end', () => half.onSideEnded(to))
  from.once('close', () => {
    if (to.destroyed) return
    // Bytes that `from` sent before its end may still be on their way to `to`. Nothing can read what `to` sends back.
    if (!from.readableEnded || from.errored || to.writableFinished) to.destroy()
    else {
      to.once('finish', () => to.destroy())
      half.onSideEnded(to)
    }
  })
}

/** The timeout of a tunnel of which one side has ended. */
class HalfClosedTunnel {
  readonly #ends: readonly [Duplex, Duplex]
  readonly #linger: number
  #timer: Timer | undefined
  #lastDataAt = 0

  constructor(one: Duplex, other: Duplex, linger: number) {
    this.#ends = [one, other]
    this.#linger = linger
  }

  /** @param open the side that may still send */
  onSideEnded(open: Duplex): void {
    this.#lastDataAt = now()
    if (this.#timer) return
    const onData = (): void => {
      this.#lastDataAt = now()
    }
    open.on('data', onData)
    for (const end of this.#ends) {
      end.once('close', () => {
        if (this.#ends.every(({ destroyed }) => destroyed)) this.#timer?.clear()
      })
    }
    this.#wait(this.#linger)
  }

  #wait(ms: number): void {
    this.#timer = afterUnref(ms, () => {
      const left = this.#lastDataAt + this.#linger - now()
      if (left > 0) return this.#wait(left)
      for (const end of this.#ends) end.destroy()
    })
  }
}

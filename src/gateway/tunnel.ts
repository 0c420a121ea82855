/**
 * Two connections made one: bytes both ways, each end's end and each end's failure passed on to the other. A tunnel
 * that one side has ended goes on for the other side, and not for ever: the one that has ended may be gone, which only
 * writing to it would tell.
 */
import type { Duplex } from 'node:stream'
import { afterUnref, now, type Timer } from '../core/time.ts'

/** Longest `tunnelLinger` of a WebSocket, in ms: its ends say goodbye in frames, and end their connections then. */
const MAX_WEBSOCKET_LINGER = 5_000

/** Milliseconds for which a half-closed tunnel may be silent. */
export function chooseLinger(protocol: string | undefined, tunnelLinger: number): number {
  const isWebSocket = protocol?.trim().toLowerCase() === 'websocket'
  return isWebSocket ? Math.min(tunnelLinger, MAX_WEBSOCKET_LINGER) : tunnelLinger
}

/** @param linger milliseconds without data, after one side has ended, after which both are closed */
export function joinStreams(one: Duplex, other: Duplex, linger: number): void {
  const half = new HalfClosedTunnel(one, other, linger)
  pipeOneWay(one, other, half)
  pipeOneWay(other, one, half)
}

function pipeOneWay(from: Duplex, to: Duplex, half: HalfClosedTunnel): void {
  // Else a socket that undici opened would end its own half when the instance ends its.
  from.allowHalfOpen = true
  from.pipe(to)
  from.on('error', () => to.destroy())
  from.once('end', () => half.onSideEnded(to))
  from.once('close', () => {
    if (to.destroyed) return
    // What `from` has sent to its end may still be on its way. Nobody is left to read what `to` would answer.
    if (!from.readableEnded || from.errored || to.writableFinished) to.destroy()
    else {
      to.once('finish', () => to.destroy())
      half.onSideEnded(to)
    }
  })
}

/** The time of a tunnel of which one side has ended. */
class HalfClosedTunnel {
  readonly #ends: readonly [Duplex, Duplex]
  readonly #linger: number
  #timer: Timer | undefined
  #movedAt = 0

  constructor(one: Duplex, other: Duplex, linger: number) {
    this.#ends = [one, other]
    this.#linger = linger
  }

  /** @param open the side that may still send */
  onSideEnded(open: Duplex): void {
    this.#movedAt = now()
    if (this.#timer) return
    const onData = (): void => {
      this.#movedAt = now()
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
      const left = this.#movedAt + this.#linger - now()
      if (left > 0) return this.#wait(left)
      for (const end of this.#ends) end.destroy()
    })
  }
}

/**
 * Which servers are silent, and for how long, by the clock of who looks. A server counts its beats; whether the count has
 * changed since the last look is all that an observer needs. No time of another machine, and no time of day, is compared: a
 * clock that is set, or two that differ, end no server.
 */
import { now } from '../../core/time.ts'

export interface HeartbeatRow {
  readonly id: string
  /** Differs after each beat. */
  readonly heartbeat_at: number
}

export class HeartbeatMonitor {
  #lastBeats = new Map<string, { readonly beat: number; readonly silent: number }>()
  #lookedAt: number | undefined

  /**
   * Notes the beats of all live servers; answers those that had none for `lease` ms of looking. One that is seen for the
   * first time is not silent yet. One gap between two looks counts as half a lease at most: a standstill of the observer, or
   * of its whole machine, is no silence of the others.
   */
  findSilent(beats: readonly HeartbeatRow[], lease: number): HeartbeatRow[] {
    const at = now()
    const passed = Math.min(at - (this.#lookedAt ?? at), lease / 2)
    this.#lookedAt = at
    const before = this.#lastBeats
    this.#lastBeats = new Map()
    const late: HeartbeatRow[] = []
    for (const one of beats) {
      const known = before.get(one.id)
      const silent = known?.beat === one.heartbeat_at ? known.silent + passed : 0
      this.#lastBeats.set(one.id, { beat: one.heartbeat_at, silent })
      if (silent >= lease) late.push(one)
    }
    return late
  }
}

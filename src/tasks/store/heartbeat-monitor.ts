/**
 * Finds servers that are silent, by the monotonic clock of the observer. The heartbeat of a server changes a number in the
 * store; the observer only checks whether that number has changed since its last look. No time of day and no time of another
 * machine is compared, so a clock that is set, or that differs, ends no server.
 */
import { now } from '../../core/time.ts'

export interface HeartbeatRow {
  readonly id: string
  /** Changes with each heartbeat. */
  readonly heartbeat_at: number
}

export class HeartbeatMonitor {
  #lastBeats = new Map<string, { readonly beat: number; readonly silent: number }>()
  #lookedAt: number | undefined

  /**
   * Notes the heartbeats of all live servers. Returns the servers that were silent for `lease` ms while this monitor looked on.
   * A server that is seen for the first time is not silent. The time between two looks counts as half a lease at most: when
   * the observer, or its whole machine, stood still, the servers need time for their next heartbeat.
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

/** The use of processors and memory by the process group of one task. */
import type { GroupMember } from './group-members.ts'

export class GroupUsage {
  static readonly CSV_HEADER = 'time,cores,memory\n'
  coresMax: number | null = null
  memoryMax: number | null = null
  readonly #cpuSecondsByPid = new Map<number, number>()
  #sampledAt: number

  /** @param now on the clock of core/time.ts, in ms */
  constructor(now: number) {
    this.#sampledAt = now
  }

  /** @returns a line of CSV: milliseconds since 1970, cores, bytes */
  addSample(members: readonly GroupMember[], now: number, wall: number): string {
    let used = 0
    let memory = 0
    for (const one of members) {
      used += one.cpuSeconds - (this.#cpuSecondsByPid.get(one.pid) ?? 0)
      memory += one.memoryBytes
      this.#cpuSecondsByPid.set(one.pid, one.cpuSeconds)
    }
    const cores = Math.round((1_000_000 * used) / Math.max(1, now - this.#sampledAt)) / 1_000
    this.#sampledAt = now
    this.coresMax = Math.max(this.coresMax ?? 0, cores)
    this.memoryMax = Math.max(this.memoryMax ?? 0, memory)
    return `${wall},${cores},${memory}\n`
  }
}

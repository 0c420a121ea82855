/** The members of process groups and what they use, as Linux has it in /proc; on other systems nothing is known. */
import { readdirSync, readFileSync } from 'node:fs'
import { readStatFields } from './proc.ts'

export interface GroupMember {
  readonly pid: number
  /** Seconds of processor time so far. */
  readonly cpuSeconds: number
  /** Bytes in memory. */
  readonly memoryBytes: number
  /** Seconds since the machine booted. */
  readonly bornAt: number
}

/** The kernel's unit of time towards programs, on every architecture of Linux. */
const TICKS_PER_SECOND = 100

/** Pages have 4, 16 or 64 KiB: the size that best fits the pages and the bytes of this process. */
function findPageSize(): number {
  const pages = Number(readStatFields(process.pid)?.[21])
  const size = process.memoryUsage.rss() / Math.max(1, pages)
  return [4_096, 16_384, 65_536].reduce((a, b) => (Math.abs(b - size) < Math.abs(a - size) ? b : a))
}

let pageSize = 0

/**
 * The living members of these groups, without their leaders.
 * @param strays pids of processes that have left their group, and the group whose members they count as
 */
export function findGroupMembers(
  groups: ReadonlySet<number>,
  strays: ReadonlyMap<number, number> = new Map(),
): Map<number, GroupMember[]> {
  const found = new Map<number, GroupMember[]>()
  if (process.platform !== 'linux') return found
  pageSize ||= findPageSize()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const pid = Number(name)
    if (groups.has(pid)) continue
    const stat = readStatFields(pid)
    if (!stat) continue
    const group = strays.get(pid) ?? Number(stat[2])
    if (!groups.has(group)) continue
    const list = found.get(group) ?? []
    if (list.length === 0) found.set(group, list)
    list.push({
      pid,
      cpuSeconds: (Number(stat[11]) + Number(stat[12])) / TICKS_PER_SECOND,
      memoryBytes: Number(stat[21]) * pageSize,
      bornAt: Number(stat[19]) / TICKS_PER_SECOND,
    })
  }
  return found
}

/** Seconds since the machine booted. */
export function readUptime(): number {
  return Number(readFileSync('/proc/uptime', 'latin1').split(' ')[0])
}

/** What one task uses now, and its maxima. Each sample is a line of CSV. */
export class GroupUsage {
  static readonly CSV_HEADER = 'time,cores,memory\n'
  coresMax: number | null = null
  memoryMax: number | null = null
  readonly #cpuSecondsByPid = new Map<number, number>()
  #sampledAt: number

  constructor(now: number) {
    this.#sampledAt = now
  }

  /** @returns a line of CSV: ms since 1970, cores, bytes */
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

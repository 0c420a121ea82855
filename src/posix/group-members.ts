/** The members of process groups, as Linux shows them. On other systems nothing is known about them. */
import { readFile } from 'node:fs/promises'
import { isRunningState, listPids, parseStat, readStat, STAT } from './proc.ts'

export interface GroupMember {
  readonly pid: number
  /** Seconds of processor time so far. */
  readonly cpuSeconds: number
  /** Bytes in memory. */
  readonly memoryBytes: number
  /** When it was started, in seconds since the machine booted. */
  readonly bornAt: number
}

/** The kernel's unit of time towards programs, on every architecture of Linux. */
const TICKS_PER_SECOND = 100

let pageSize = 0

/** Pages have 4, 16 or 64 KiB. The right size is the one by which our own pages give our own bytes. */
function findPageSize(): number {
  const pages = Number(readStat('self')?.[STAT.residentPages])
  const size = process.memoryUsage.rss() / Math.max(1, pages)
  return [4_096, 16_384, 65_536].reduce((a, b) => (Math.abs(b - size) < Math.abs(a - size) ? b : a))
}

/**
 * The running members of these groups, without their leaders.
 * @param strays pids of processes that have left their group, and the group that each of them still counts for
 */
export function findGroupMembers(
  groups: ReadonlySet<number>,
  strays: ReadonlyMap<number, number> = new Map(),
): Map<number, GroupMember[]> {
  const found = new Map<number, GroupMember[]>()
  if (process.platform !== 'linux') return found
  pageSize ||= findPageSize()
  for (const pid of listPids()) {
    if (groups.has(pid)) continue
    const stat = readStat(pid)
    if (!stat || !isRunningState(stat[STAT.state])) continue
    const group = strays.get(pid) ?? Number(stat[STAT.group])
    if (!groups.has(group)) continue
    const list = found.get(group) ?? []
    if (list.length === 0) found.set(group, list)
    list.push({
      pid,
      cpuSeconds: (Number(stat[STAT.userTime]) + Number(stat[STAT.systemTime])) / TICKS_PER_SECOND,
      memoryBytes: Number(stat[STAT.residentPages]) * pageSize,
      bornAt: Number(stat[STAT.startTime]) / TICKS_PER_SECOND,
    })
  }
  return found
}

/**
 * Whether a group has a member that is no zombie; undefined where that cannot be known. A signal does not answer this:
 * a zombie can be signalled, and it stays for ever under a pid 1 that does not reap, as in many containers.
 */
export async function hasRunningMember(group: number): Promise<boolean | undefined> {
  if (process.platform !== 'linux') return undefined
  const pids = listPids()
  if (pids.length === 0) return undefined
  // Not by `readStat`: this is asked while the event loop has other work.
  const stats = await Promise.all(
    pids.map((pid) => readFile(`/proc/${pid}/stat`, 'latin1').catch(() => '')),
  )
  return stats.some((text) => {
    const stat = parseStat(text)
    return stat[STAT.group] === String(group) && isRunningState(stat[STAT.state])
  })
}

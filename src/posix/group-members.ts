/** Who is in a process group, where the system tells (Linux). */
import { readdir, readFile } from 'node:fs/promises'
import { parseStat } from './proc.ts'

/**
 * Whether a group has a member that is no zombie, or `undefined` where that cannot be known. Signals are of no help:
 * a zombie can be signalled, and under a pid 1 that does not reap, as in many containers, it stays for ever.
 */
export async function hasRunningMember(group: number): Promise<boolean | undefined> {
  if (process.platform !== 'linux') return undefined
  const names = await readdir('/proc').catch(() => [])
  const pids = names.filter((name) => /^\d+$/.test(name))
  if (pids.length === 0) return undefined
  const stats = await Promise.all(
    pids.map((pid) => readFile(`/proc/${pid}/stat`, 'latin1').catch(() => '')),
  )
  return stats.some((stat) => parseStat(stat)?.[2] === String(group))
}

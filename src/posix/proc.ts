/** The processes of this machine, as Linux shows them in /proc. On other systems every function finds nothing. */
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, readSync } from 'node:fs'

export interface ProcessEntry {
  readonly pid: number
  readonly parent: number
  readonly group: number
  readonly session: number
  /** In ticks since the boot. Together with the pid it names one process: the pid alone is given to others later. */
  readonly startTime: string
}

/**
 * Indexes of `parseStat`: the fields of /proc/<pid>/stat after the name of the command, see proc(5).
 * The times are in ticks, the size in memory is in pages.
 */
export const STAT = {
  state: 0,
  parent: 1,
  group: 2,
  session: 3,
  userTime: 11,
  systemTime: 12,
  startTime: 19,
  residentPages: 21,
} as const

/** Large enough for every `stat` file. There is one buffer because a scan of a busy machine reads thousands of files. */
const buffer = Buffer.allocUnsafe(4_096)

/** Pids of all processes, zombies included. */
export function listPids(): number[] {
  try {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
  } catch {
    return []
  }
}

/** All processes that run. A zombie does not run. */
export function listProcesses(): ProcessEntry[] {
  const found: ProcessEntry[] = []
  for (const pid of listPids()) {
    const entry = readProcess(pid)
    if (entry) found.push(entry)
  }
  return found
}

/** Undefined for a process that does not run, and where the system does not tell. */
export function readProcess(pid: number): ProcessEntry | undefined {
  const fields = readStat(pid)
  if (!fields || !isRunningState(fields[STAT.state])) return undefined
  return {
    pid,
    parent: Number(fields[STAT.parent]),
    group: Number(fields[STAT.group]),
    session: Number(fields[STAT.session]),
    startTime: fields[STAT.startTime] ?? '',
  }
}

/** The fields of a process by their index in `STAT`; undefined where there is no such process. */
export function readStat(pid: number | 'self'): string[] | undefined {
  try {
    const file = openSync(`/proc/${pid}/stat`, 'r')
    try {
      return parseStat(buffer.toString('latin1', 0, readSync(file, buffer, 0, buffer.length, 0)))
    } finally {
      closeSync(file)
    }
  } catch {
    return undefined
  }
}

/** The name of the command, in parentheses, may hold anything, also spaces and parentheses. */
export function parseStat(text: string): string[] {
  return text.slice(text.lastIndexOf(')') + 2).split(' ')
}

/** False for a zombie, for a dead process, and for the state of a file that could not be read. */
export function isRunningState(state: string | undefined): boolean {
  return state !== undefined && state !== '' && state !== 'Z' && state !== 'X'
}

/** The environment that a process was started with, `NAME=value` each; empty where it may not be read. */
export function readProcessEnvironment(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0')
  } catch {
    return []
  }
}

/** The targets of the first three descriptors of a process: `pipe:[1234]`, `/dev/null`. */
export function readStandardFiles(pid: number): string[] {
  return [0, 1, 2].map((fd) => readLink(`/proc/${pid}/fd/${fd}`))
}

/** The target of a symbolic link; empty where there is none. */
export function readLink(path: string): string {
  try {
    return readlinkSync(path)
  } catch {
    return ''
  }
}

/** Seconds since the machine booted. */
export function readUptime(): number {
  return Number(readFileSync('/proc/uptime', 'latin1').split(' ')[0])
}

/** Sends SIGKILL. A process that has just ended, or that belongs to another user, is left alone. */
export function killProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended, or it is not ours.
  }
}

/** The processes of this machine, as Linux tells of them in /proc. Elsewhere nothing is known. */
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, readSync } from 'node:fs'

export interface ProcessEntry {
  readonly pid: number
  readonly parent: number
  readonly group: number
  readonly session: number
  /** `R` runs, `S` and `D` wait, `T` is stopped, ... */
  readonly state: string
  /** In ticks since the boot. With the pid it names one process: a pid alone is given to others later. */
  readonly startTime: string
}

/** Long enough for every `stat` file. One buffer: a look at a busy machine reads thousands of files. */
const buffer = Buffer.allocUnsafe(4_096)

/** All processes that run; a zombie does not. */
export function listProcesses(): ProcessEntry[] {
  const found: ProcessEntry[] = []
  for (const name of processNames()) {
    const entry = readProcess(Number(name))
    if (entry) found.push(entry)
  }
  return found
}

function processNames(): string[] {
  try {
    return readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  } catch {
    return []
  }
}

/** Undefined for a process that does not run, a zombie included, and where the system has no /proc. */
export function readProcess(pid: number): ProcessEntry | undefined {
  const fields = readStatFields(pid)
  if (!fields) return undefined
  return {
    pid,
    state: fields[0] as string,
    parent: Number(fields[1]),
    group: Number(fields[2]),
    session: Number(fields[3]),
    startTime: fields[19] ?? '',
  }
}

/**
 * The fields of /proc/<pid>/stat from `state` on (proc_pid_stat(5): field 3 has index 0). Undefined for a process that does not
 * run, a zombie included.
 */
export function readStatFields(pid: number): string[] | undefined {
  let stat: string
  try {
    const file = openSync(`/proc/${pid}/stat`, 'r')
    try {
      stat = buffer.toString('latin1', 0, readSync(file, buffer, 0, buffer.length, 0))
    } finally {
      closeSync(file)
    }
  } catch {
    return undefined
  }
  return parseStat(stat)
}

/** As `readStatFields`, of the text of the file. */
export function parseStat(stat: string): string[] | undefined {
  // The name of the command, in parentheses, may hold anything: also spaces and parentheses.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  const [state] = fields
  return state === undefined || state === '' || state === 'Z' || state === 'X' ? undefined : fields
}

/** The environment that a process was started with, `NAME=value` each; empty where it may not be read. */
export function readProcessEnvironment(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0')
  } catch {
    return []
  }
}

/** What the first three descriptors of a process are: `pipe:[1234]`, `/dev/null`. */
export function readStandardFiles(pid: number): string[] {
  return [0, 1, 2].map((fd) => readLink(`/proc/${pid}/fd/${fd}`))
}

/** What a symbolic link says; empty where there is none. */
export function readLink(path: string): string {
  try {
    return readlinkSync(path)
  } catch {
    return ''
  }
}

/**
 * Names of processes that other processes of this machine can look up: `namespace.pid.start`. Stores of tasks have them in the
 * ids of servers, so the format must not change. identity.ts has a shorter form for everything else.
 */
import { readFileSync } from 'node:fs'
import { isRunningState, readLink, readStat, STAT } from './proc.ts'

export interface FoundProcess {
  readonly pid: number
  /** As /proc has it: `R`, `S`, `T`, ...; undefined: the process does not run any more. */
  readonly state?: string
}

/** The name of a process; undefined where the system has no /proc, or the process does not run. */
export function formatProcess(pid: number): string | undefined {
  const namespace = readPidNamespace()
  const start = readRunning(pid)?.[STAT.startTime]
  return namespace && start ? `${namespace}.${pid}.${start}` : undefined
}

/** The process of that name; undefined for one that cannot be known here, such as one of another machine. */
export function findProcess(name: string): FoundProcess | undefined {
  const [namespace, pid, start] = name.split('.')
  if (!namespace || !pid || !start || namespace !== readPidNamespace()) return undefined
  const stat = readRunning(Number(pid))
  // The system gives pids again, but never with the same time of start.
  const state = stat?.[STAT.startTime] === start ? stat?.[STAT.state] : undefined
  return { pid: Number(pid), ...(state !== undefined && { state }) }
}

function readRunning(pid: number): string[] | undefined {
  const stat = readStat(pid)
  return isRunningState(stat?.[STAT.state]) ? stat : undefined
}

/** A pid is unique within its namespace until the next boot: `boot-namespace`. */
function readPidNamespace(): string | undefined {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').slice(0, 8)
    const number = /\d+/.exec(readLink('/proc/self/ns/pid'))?.[0]
    return number === undefined ? undefined : `${boot}-${number}`
  } catch {
    return undefined
  }
}

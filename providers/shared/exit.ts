/** Exit codes as all engines give them: the exit code of a killed process is 128 plus the number of the signal. */
import type { Exit } from '../../src/core/provider.ts'

/** The numbers of Linux, because instances run on Linux. This machine may be of another kind. */
const SIGNAL_NUMBERS = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGILL: 4,
  SIGTRAP: 5,
  SIGABRT: 6,
  SIGBUS: 7,
  SIGFPE: 8,
  SIGKILL: 9,
  SIGUSR1: 10,
  SIGSEGV: 11,
  SIGUSR2: 12,
  SIGPIPE: 13,
  SIGALRM: 14,
  SIGTERM: 15,
  SIGSTKFLT: 16,
  SIGXCPU: 24,
  SIGXFSZ: 25,
  SIGVTALRM: 26,
  SIGPROF: 27,
  SIGPOLL: 29,
  SIGPWR: 30,
  SIGSYS: 31,
} as const

const SIGNAL_NAMES = new Map<number, string>(
  Object.entries(SIGNAL_NUMBERS).map(([name, number]) => [number, name]),
)

/** The exit code of a process that was killed by a signal such as `SIGTERM`. An unknown signal counts as SIGKILL. */
export function exitCodeOfSignal(name: string): number {
  return (
    128 + ((SIGNAL_NUMBERS as Readonly<Record<string, number>>)[name] ?? SIGNAL_NUMBERS.SIGKILL)
  )
}

/** The end of a process that the kernel killed because it used too much memory. @param limit its limit in bytes */
export function outOfMemoryExit(exitCode: number, limit: number | undefined): Exit {
  const bytes = limit === undefined ? '' : `, limit ${limit} bytes`
  return { reason: 'out-of-memory', detail: `out of memory (exit code ${exitCode}${bytes})` }
}

/** The end of a process with this exit code. */
export function exitOfCode(code: number): Exit {
  const signal = SIGNAL_NAMES.get(code - 128)
  return signal
    ? { reason: 'killed', detail: `killed by ${signal}` }
    : { reason: 'exited', detail: `exit code ${code}` }
}

/** Ends as all engines tell them: an exit code, which of what was killed is 128 and the signal's number. */
import type { Exit } from '../../src/core/provider.ts'

/** As Linux counts them, which is what instances run on: this machine may be another kind. */
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

/** The exit code of what was killed by that signal, `SIGTERM`; as by SIGKILL for one that nobody knows. */
export function exitCodeOfSignal(name: string): number {
  return (
    128 + ((SIGNAL_NUMBERS as Readonly<Record<string, number>>)[name] ?? SIGNAL_NUMBERS.SIGKILL)
  )
}

/** How it ended that has this exit code. */
export function exitOfCode(code: number): Exit {
  const signal = SIGNAL_NAMES.get(code - 128)
  return signal
    ? { reason: 'killed', detail: `killed by ${signal}` }
    : { reason: 'exited', detail: `exit code ${code}` }
}

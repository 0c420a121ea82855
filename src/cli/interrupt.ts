/** Ctrl-C and SIGTERM of commands that run until one of them comes. */
import { exitCodesFor } from './exit.ts'

export interface Interruption {
  readonly signal: AbortSignal
  /** The exit code of the signal that came. */
  readonly code: () => number
}

/**
 * Replaces all listeners of a signal by one. The new listener is added before the old ones are removed: without a listener in
 * between, a signal that has arrived but was not delivered yet would be lost.
 */
export function replaceSignalListeners(name: 'SIGINT' | 'SIGTERM', listener: () => void): void {
  const before = process.listeners(name)
  process.on(name, listener)
  for (const old of before) process.off(name, old)
}

/** Aborts at the first signal, and ends the process at the second. @param command its first word, for its exit codes */
export function abortOnInterrupt(command?: string): Interruption {
  const controller = new AbortController()
  const exits = exitCodesFor(command)
  let code = exits('ok')
  const end = (number: number) => (): void => {
    // A second signal means that the user does not want to wait.
    if (controller.signal.aborted) process.exit(number)
    code = number
    controller.abort()
  }
  replaceSignalListeners('SIGINT', end(exits('interrupted')))
  replaceSignalListeners('SIGTERM', end(exits('terminated')))
  return { signal: controller.signal, code: () => code }
}

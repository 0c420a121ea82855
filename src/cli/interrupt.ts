/** Ctrl-C and SIGTERM, for commands that run until then. */
import { exitCodesFor } from './exit.ts'

export interface Interruption {
  readonly signal: AbortSignal
  /** The exit code of the signal that came. */
  readonly code: () => number
}

/**
 * Hears a signal from now on, in place of whoever did. The new listener is there before the old ones go: with none in
 * between, a signal that has come but was not told yet would be lost.
 */
export function replaceSignalListeners(name: 'SIGINT' | 'SIGTERM', listener: () => void): void {
  const before = process.listeners(name)
  process.on(name, listener)
  for (const old of before) process.off(name, old)
}

/** @param command whose exit codes are meant */
export function abortOnInterrupt(command?: string): Interruption {
  const controller = new AbortController()
  const exits = exitCodesFor(command)
  let code = exits('ok')
  const end = (number: number) => (): void => {
    // Who asks twice does not want to wait.
    if (controller.signal.aborted) process.exit(number)
    code = number
    controller.abort()
  }
  replaceSignalListeners('SIGINT', end(exits('interrupted')))
  replaceSignalListeners('SIGTERM', end(exits('terminated')))
  return { signal: controller.signal, code: () => code }
}

/** Ctrl-C and SIGTERM, for commands that run until then. */
import { EXIT } from './exit.ts'

export interface Interruption {
  readonly signal: AbortSignal
  /** The exit code of the signal that came. */
  readonly code: () => number
}

/**
 * Hears a signal from now on, in place of whoever did. The new listener is there before the old ones go: with none in
 * between, a signal that has come but was not told yet would be lost.
 */
export function takeSignal(name: 'SIGINT' | 'SIGTERM', listener: () => void): void {
  const before = process.listeners(name)
  process.on(name, listener)
  for (const old of before) process.off(name, old)
}

export function untilInterrupted(): Interruption {
  const controller = new AbortController()
  let code: number = EXIT.ok.number
  const end = (number: number) => (): void => {
    // Who asks twice does not want to wait.
    if (controller.signal.aborted) process.exit(number)
    code = number
    controller.abort()
  }
  takeSignal('SIGINT', end(EXIT.interrupted.number))
  takeSignal('SIGTERM', end(EXIT.terminated.number))
  return { signal: controller.signal, code: () => code }
}

/** Ctrl-C and SIGTERM, for commands that run until then. */
import { EXIT } from './exit.ts'

export interface Interruption {
  readonly signal: AbortSignal
  /** The exit code of the signal that came. */
  readonly code: () => number
}

export function untilInterrupted(): Interruption {
  const controller = new AbortController()
  let code: number = EXIT.ok.number
  process.removeAllListeners('SIGINT')
  const end = (number: number) => (): void => {
    // Who asks twice does not want to wait.
    if (controller.signal.aborted) process.exit(number)
    code = number
    controller.abort()
  }
  process.on('SIGINT', end(EXIT.interrupted.number))
  process.on('SIGTERM', end(EXIT.terminated.number))
  return { signal: controller.signal, code: () => code }
}

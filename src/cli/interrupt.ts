/** Ctrl-C and SIGTERM, for commands that run until then. */
import { exitsOf } from './exit.ts'

export interface Interruption {
  readonly signal: AbortSignal
  /** The exit code of the signal that came. */
  readonly code: () => number
}

/**
 * Of one Ctrl-C, or one end by `timeout`, two signals can come: from the terminal, which tells the whole process group, and from the
 * program that started this one, such as npx, which passes its own on. Two that come so close together, in ms, are one.
 */
const SAME_SIGNAL = 150

const heardAt = new Map<string, number>()

function isRepeated(name: string): boolean {
  const now = performance.now()
  const before = heardAt.get(name) ?? Number.NEGATIVE_INFINITY
  if (now - before < SAME_SIGNAL) return true
  heardAt.set(name, now)
  return false
}

/**
 * Hears a signal from now on, in place of whoever did. The new listener is there before the old ones go: with none in
 * between, a signal that has come but was not told yet would be lost.
 */
export function takeSignal(name: 'SIGINT' | 'SIGTERM', listener: () => void): void {
  const before = process.listeners(name)
  process.on(name, () => {
    if (!isRepeated(name)) listener()
  })
  for (const old of before) process.off(name, old)
}

/** @param command whose exit codes are meant */
export function untilInterrupted(command?: string): Interruption {
  const controller = new AbortController()
  const exits = exitsOf(command)
  let code = exits('ok')
  const end = (number: number) => (): void => {
    // Who asks twice does not want to wait.
    if (controller.signal.aborted) process.exit(number)
    code = number
    controller.abort()
  }
  takeSignal('SIGINT', end(exits('interrupted')))
  takeSignal('SIGTERM', end(exits('terminated')))
  return { signal: controller.signal, code: () => code }
}

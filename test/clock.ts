/** A false clock: timers of src/core/time.ts fire when the test lets time pass. Sockets and processes go on. */
import { onTestFinished, vi } from 'vitest'
import { waitUntil } from './help.ts'

export interface FalseClock {
  /** Lets time pass. Timers that are due by then fire. */
  pass(ms: number): Promise<void>
  /** Lets `step` ms pass again and again until `ask` is true. For tests that also wait for real sockets or processes. */
  passUntil(step: number, ask: () => boolean | Promise<boolean>): Promise<unknown>
}

/** Replaces the clock until the end of the test. To be called before anything reads the clock. */
export function useFalseClock(): FalseClock {
  vi.useFakeTimers({
    toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'performance', 'Date'],
  })
  onTestFinished(() => void vi.useRealTimers())
  const pass = async (ms: number): Promise<void> => {
    await vi.advanceTimersByTimeAsync(ms)
  }
  return {
    pass,
    passUntil: (step, ask) =>
      waitUntil(async () => {
        if (await ask()) return true
        await pass(step)
        return false
      }, String(ask)),
  }
}

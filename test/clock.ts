/** A false clock: what waits in src/core/time.ts waits until the test lets time pass. Sockets and processes go on. */
import { onTestFinished, vi } from 'vitest'
import { waitUntil } from './help.ts'

export interface FalseClock {
  /** Lets so many ms pass, and what is due then happen. */
  pass(ms: number): Promise<void>
  /** Lets time pass, `step` ms at a look, until it is true. For what takes turns with real sockets or processes. */
  passUntil(step: number, ask: () => boolean | Promise<boolean>): Promise<unknown>
}

/** From now to the end of the test. To be called before anything looks at the clock. */
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

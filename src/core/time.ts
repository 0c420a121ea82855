/**
 * The only file that touches timers and clocks. It asks the globals at each call, so a false clock in a test that
 * replaces `setTimeout` and `performance` replaces time for the whole of manyhost.
 */

/** Milliseconds on a clock that never goes backwards. Only differences have a meaning. */
export function now(): number {
  return performance.now()
}

/** Milliseconds since 1970, for people and other machines. */
export function wallClock(): number {
  return Date.now()
}

/** A timer that was started; `clear` may be called any number of times. */
export interface Timer {
  clear(): void
}

class TimeoutTimer implements Timer {
  readonly #handle: ReturnType<typeof setTimeout>

  constructor(ms: number, callback: () => void, keepsAlive: boolean) {
    // setTimeout fires at once for more than 2^31-1 ms (25 days); such a wait is as good as the longest one.
    this.#handle = setTimeout(callback, Math.min(ms, 2_147_483_647))
    if (!keepsAlive) this.#handle.unref?.()
  }

  clear(): void {
    clearTimeout(this.#handle)
  }
}

/** Calls back once after `ms` milliseconds. Keeps the process alive until then. */
export function after(ms: number, callback: () => void): Timer {
  return new TimeoutTimer(ms, callback, true)
}

/** Calls back once after `ms` milliseconds. Does not keep the process alive. */
export function afterUnref(ms: number, callback: () => void): Timer {
  return new TimeoutTimer(ms, callback, false)
}

/** A timer that is more milliseconds late than this shows that this process, or its machine, stood still. */
const STANDSTILL = 50

/**
 * Calls back when the peer was silent for `ms` milliseconds. Does not keep the process alive. If this process stood still
 * itself, bytes of the peer may wait unread. Then the timer waits once more, for as long as it was late and for `ms` at most.
 * It does so only once, so that a process that is always late still calls back.
 */
export function afterSilence(ms: number, callback: () => void): Timer {
  const due = now() + ms
  let timer = afterUnref(ms, () => {
    const late = now() - due
    if (late <= STANDSTILL) return callback()
    timer = afterUnref(Math.min(late, ms), callback)
  })
  return { clear: () => timer.clear() }
}

/** Calls back every `ms` milliseconds. Does not keep the process alive. */
export function every(ms: number, callback: () => void): Timer {
  const handle = setInterval(callback, ms)
  handle.unref?.()
  return { clear: () => clearInterval(handle) }
}

/** Resolves after `ms` milliseconds. Rejects with the reason of the signal as soon as that is aborted. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason)
    const onAbort = (): void => {
      timer.clear()
      reject(signal?.reason)
    }
    const timer = after(ms, () => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    })
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}

/** Resolves when this turn of the event loop is over: connections and bytes that were waiting have been taken in. */
export function yieldTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve)
  })
}

/** Settles as `promise` does, or resolves with `undefined` after `ms` milliseconds, whichever is first. */
export async function resolveWithin<T>(ms: number, promise: Promise<T>): Promise<T | undefined> {
  let timer: Timer | undefined
  const late = new Promise<undefined>((resolve) => {
    timer = after(ms, () => resolve(undefined))
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    timer?.clear()
  }
}

/** Milliseconds between two checks of `until`. */
const UNTIL_INTERVAL = 2

/** Resolves with true when the condition holds, or with false after `timeout` milliseconds. Not for the hot path. */
export async function until(
  condition: () => boolean,
  timeout = Number.POSITIVE_INFINITY,
): Promise<boolean> {
  const deadline = now() + timeout
  while (!condition()) {
    if (now() >= deadline) return false
    await sleep(UNTIL_INTERVAL)
  }
  return true
}

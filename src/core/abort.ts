/** Promises and abort signals. */

/**
 * Settles as `promise` does, or rejects with the reason of the signal as soon as that is aborted. Unlike `Promise.race`, it
 * leaves no listener at a signal that outlives the promise.
 */
export function settleOrAbort<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason)
    if (signal.aborted) onAbort()
    else signal.addEventListener('abort', onAbort, { once: true })
    const removeListener = (): void => signal.removeEventListener('abort', onAbort)
    void promise.then(resolve, reject).finally(removeListener)
  })
}

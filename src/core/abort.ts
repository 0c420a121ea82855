/** Waiting that ends with an AbortSignal. */
import { asError } from './errors.ts'

/**
 * Settles as `promise` does, or rejects with the reason of the signal as soon as that is aborted. The promise itself goes
 * on. No listener stays at the signal.
 */
export function rejectOnAbort<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(asError(signal.reason))
    if (signal.aborted) onAbort()
    else signal.addEventListener('abort', onAbort, { once: true })
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}

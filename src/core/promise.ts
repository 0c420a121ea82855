/** Promises of any library. */

/** Whether a value can be awaited: an object with a method `then`. A getter `then` of the value is called, and may throw. */
export function isPromiseLike<T>(value: T | PromiseLike<T>): value is PromiseLike<T> {
  return (
    typeof value === 'object' &&
    value !== null &&
    typeof (value as PromiseLike<T>).then === 'function'
  )
}

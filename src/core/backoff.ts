/** How long to wait before the next attempt. Pure. */

/** Bounds of a wait, in milliseconds. */
export interface BackoffRange {
  readonly min: number
  readonly max: number
}

/** `min` after no failure, doubled with each further failure in a row, up to `max`. In milliseconds. */
export function exponentialDelay(failures: number, { min, max }: BackoffRange): number {
  // 2^30 times any `min` is above any `max`; a larger exponent would only lose precision.
  return Math.min(max, min * 2 ** Math.min(Math.max(failures, 0), 30))
}

/**
 * Exponential backoff with "equal jitter": half of the delay is fixed, so that attempts never follow each other at once;
 * half is random, so that clients that lost the same peer do not come back at the same time.
 * Source: Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
 * @param failures failures in a row before this wait; 0 gives the shortest delay
 * @param random source of the jitter, in [0, 1)
 */
export function backoffDelay(failures: number, range: BackoffRange, random: () => number): number {
  const half = exponentialDelay(failures, range) / 2
  return half + random() * half
}

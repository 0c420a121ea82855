/** How long to wait before the next attempt. Pure. */

export interface FeedBackoffRange {
  /** Milliseconds. */
  readonly min: number
  readonly max: number
}

/**
 * Exponential with "equal jitter" (Brooker, AWS architecture blog, 2015): half of it is fixed, so that attempts never
 * come at once, half is random, so that the clients of a broker that comes back do not come all together.
 * `failures` counts those in a row: 0 is the first attempt after a connection that was well.
 */
export function backoffDelay(
  failures: number,
  { min: least, max: most }: FeedBackoffRange,
  random: number,
): number {
  const ceiling = Math.min(most, least * 2 ** Math.min(failures, 30))
  return ceiling / 2 + (ceiling / 2) * random
}

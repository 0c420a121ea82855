/** Timeouts of tasks, where several limits hold at once. Pure. */

/** The shorter of two timeouts in ms, of which 0 is unlimited. */
export function shorterTimeout(a: number, b: number): number {
  if (a <= 0 || b <= 0) return Math.max(a, b, 0)
  return Math.min(a, b)
}

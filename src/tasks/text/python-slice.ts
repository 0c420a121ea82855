/** A slice of a list, as Python takes it: `list[start:stop:step]`. */
export function takeSlice<T>(
  list: readonly T[],
  start: number | undefined,
  stop: number | undefined,
  step: number,
): T[] {
  const { length } = list
  const [low, high] = step > 0 ? [0, length] : [-1, length - 1]
  const hold = (at: number | undefined, otherwise: number): number => {
    if (at === undefined) return otherwise
    return Math.min(Math.max(at < 0 ? at + length : at, low), high)
  }
  const from = hold(start, step > 0 ? low : high)
  const to = hold(stop, step > 0 ? high : low)
  const taken: T[] = []
  for (let at = from; step > 0 ? at < to : at > to; at += step) taken.push(list[at] as T)
  return taken
}

/**
 * The average of a load over a window that ends now, weighted by time: a load counts for as long as it lasted, however
 * often it was measured. Pure.
 */

/** The measurements of a load; made by `recordLoad`. */
export interface LoadHistory {
  /** Time of the last measurement, in milliseconds. */
  readonly at: number
  /** The load at the last measurement, and since then. */
  readonly load: number
  /** The time before it, oldest first and without a gap; `area` is load times milliseconds. */
  readonly pieces: readonly { readonly from: number; readonly to: number; readonly area: number }[]
}

/**
 * Adds a measurement and drops those that are more than `keep` ms old. Measurements within `grain` ms become one piece, so that
 * many of them cost no memory.
 */
export function recordLoad(
  last: LoadHistory | undefined,
  look: { readonly at: number; readonly load: number },
  { keep, grain }: { keep: number; grain: number },
): LoadHistory {
  if (!last) return { ...look, pieces: [] }
  if (look.at <= last.at) return { ...last, load: look.load }
  const { at, load } = look
  const area = last.load * (at - last.at)
  const newest = last.pieces.at(-1)
  const joins = newest !== undefined && at - newest.from <= grain
  const pieces = joins
    ? [...last.pieces.slice(0, -1), { from: newest.from, to: at, area: newest.area + area }]
    : [...last.pieces, { from: last.at, to: at, area }]
  return { at, load, pieces: pieces.filter((piece) => piece.to > at - keep) }
}

/**
 * Average load over the last `window` ms, or since the first measurement if that is less. At the first measurement it is the
 * load itself, as no time has passed.
 */
export function averageLoad({ at, load, pieces }: LoadHistory, window: number): number {
  const from = Math.max(pieces[0]?.from ?? at, at - window)
  if (from >= at) return load
  const area = pieces.reduce((sum, piece) => {
    const inside = Math.max(0, piece.to - Math.max(piece.from, from))
    return sum + (piece.area * inside) / (piece.to - piece.from)
  }, 0)
  return area / (at - from)
}

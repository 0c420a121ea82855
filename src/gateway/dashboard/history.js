/** The last values of a figure, and the line through these values. */
import { setAttribute } from './dom.js'

/** Values that are kept, one per second. */
export const LENGTH = 60

/** A ring of numbers; NaN is a gap. */
export class History {
  #values = new Float64Array(LENGTH).fill(Number.NaN)
  #next = 0

  push(value) {
    this.#values[this.#next] = value ?? Number.NaN
    this.#next = (this.#next + 1) % LENGTH
  }

  /** Oldest first. */
  at(index) {
    return this.#values[(this.#next + index) % LENGTH]
  }

  get max() {
    let max = 0
    for (const value of this.#values) if (value > max) max = value
    return max
  }
}

const WIDTH = 100
const HEIGHT = 24
const MARGIN = 2

function x(index) {
  return ((index * WIDTH) / (LENGTH - 1)).toFixed(1)
}

/** Draws a history into one path, and the area below it into another. `max` is the value at the top. */
export function draw(history, max, line, area) {
  let d = ''
  let filled = ''
  let from = -1
  const scale = max > 0 ? (HEIGHT - 2 * MARGIN) / max : 0
  for (let index = 0; index <= LENGTH; index++) {
    const value = index < LENGTH ? history.at(index) : Number.NaN
    if (Number.isNaN(value)) {
      if (from >= 0) filled += `V${HEIGHT}H${x(from)}Z`
      from = -1
      continue
    }
    const point = `${from < 0 ? 'M' : 'L'}${x(index)} ${(HEIGHT - MARGIN - value * scale).toFixed(1)}`
    if (from < 0) from = index
    d += point
    filled += point
  }
  if (line) setAttribute(line, 'd', d)
  if (area) setAttribute(area, 'd', filled)
}

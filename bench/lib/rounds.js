/** Contenders in turn, round after round: on a busy machine only what ran side by side can be compared. */
import { median } from './stats.js'

/**
 * No gc() in between: each one ages compiled code, and after a few the contenders would begin cold again.
 *
 * @param contenders functions by name, each `(round) => figures`
 * @returns by name: the median of each figure, and under `ratio` the median over the rounds of figure / base's figure
 */
export async function rounds(contenders, { count, base, warmups = 1 }) {
  const samples = Object.fromEntries(Object.keys(contenders).map((name) => [name, []]))
  for (let round = -warmups; round < count; round++) {
    // Each round begins with another one, so that nobody always comes after the same one.
    const names = Object.keys(contenders)
    const turn = Math.abs(round) % names.length
    for (const name of [...names.slice(turn), ...names.slice(0, turn)]) {
      const figures = await contenders[name](round)
      if (round >= 0) samples[name].push(figures)
    }
  }
  const result = {}
  for (const [name, mine] of Object.entries(samples)) {
    result[name] = { ratio: {} }
    for (const figure of Object.keys(mine[0])) {
      result[name][figure] = median(mine.map((one) => one[figure]))
      result[name].ratio[figure] = median(
        mine.map((one, i) => one[figure] / samples[base][i][figure]),
      )
    }
  }
  return result
}

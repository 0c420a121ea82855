/** Finds the known name that a misspelled word probably means. Pure. */

/** The nearest of the names; undefined if none is near. */
export function findNearest(word: string, names: readonly string[]): string | undefined {
  if (word.length > 40) return undefined
  const given = normalizeWord(word)
  let best: string | undefined
  let minSteps = Math.max(1, Math.floor(given.length / 3)) + 1
  for (const name of names) {
    const known = normalizeWord(name)
    const long = Math.min(given.length, known.length) > 3
    const contained = long && (known.startsWith(given) || given.startsWith(known))
    const steps = Math.min(editDistance(given, known), contained ? 2 : Number.POSITIVE_INFINITY)
    if (steps < minSteps) {
      minSteps = steps
      best = name
    }
  }
  return best
}

function normalizeWord(word: string): string {
  return word.toLowerCase().replace(/[-_ ]/g, '')
}

/** Number of letters to insert, remove, replace or swap with a neighbour to turn one word into the other. */
function editDistance(a: string, b: string): number {
  let before: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, column) => column)
  for (let row = 1; row <= a.length; row++) {
    const next = [row]
    for (let column = 1; column <= b.length; column++) {
      const same = a[row - 1] === b[column - 1]
      let steps = Math.min(
        cellAt(next, column - 1) + 1,
        cellAt(last, column) + 1,
        cellAt(last, column - 1) + (same ? 0 : 1),
      )
      const swapped = row > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]
      if (swapped) steps = Math.min(steps, cellAt(before, column - 2) + 1)
      next.push(steps)
    }
    before = last
    last = next
  }
  return cellAt(last, b.length)
}

function cellAt(row: readonly number[], column: number): number {
  return row[column] ?? Number.POSITIVE_INFINITY
}

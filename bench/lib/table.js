/** Prints rows as an aligned table of plain text: the first column to the left, figures to the right. */
export function table(title, columns, rows, notes = []) {
  const cells = [columns, ...rows].map((row) => row.map((cell) => format(cell)))
  const widths = columns.map((_, index) =>
    Math.max(...cells.map((row) => (row[index] ?? '').length)),
  )
  const lines = cells.map((row) =>
    row
      .map((cell, index) => (index === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[index])))
      .join('  ')
      .trimEnd(),
  )
  lines.splice(1, 0, widths.map((width) => '-'.repeat(width)).join('  '))
  console.log(`\n${title}`)
  for (const line of [...lines, ...notes.map((note) => `* ${note}`)]) console.log(`  ${line}`)
}

function format(cell) {
  if (cell === undefined || cell === null) return ''
  if (typeof cell !== 'number') return String(cell)
  if (Number.isInteger(cell)) return cell.toLocaleString('en-US')
  const size = Math.abs(cell)
  return cell.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2)
}

/** `x 1.04` */
export function ratio(value) {
  return `x ${value.toFixed(2)}`
}

export function percent(share, digits = 2) {
  return `${(100 * share).toFixed(digits)} %`
}

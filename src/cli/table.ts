/** Formats a table whose columns are as wide as their widest cell. Pure. */
import { stripVTControlCharacters } from 'node:util'

export interface TableColumn {
  readonly title: string
  readonly align?: 'right'
}

/** The lines of a table, its head first. Cells may have colours. The last column is not padded. */
export function formatTable(
  columns: readonly TableColumn[],
  rows: readonly (readonly string[])[],
  head: (text: string) => string = (text) => text,
): string[] {
  const widths = columns.map(({ title }, index) =>
    Math.max(title.length, ...rows.map((row) => visibleWidth(row[index] ?? ''))),
  )
  const formatRow = (cells: readonly string[]): string =>
    columns
      .map(({ align }, index) => {
        const cell = cells[index] ?? ''
        const blank = ' '.repeat((widths[index] ?? 0) - visibleWidth(cell))
        if (align === 'right') return blank + cell
        return index === columns.length - 1 ? cell : cell + blank
      })
      .join('  ')
      .trimEnd()
  return [head(formatRow(columns.map(({ title }) => title))), ...rows.map(formatRow)]
}

function visibleWidth(cell: string): number {
  return stripVTControlCharacters(cell).length
}

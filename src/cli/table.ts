/** Rows in columns, as wide as they need to be. Pure. */
import { stripVTControlCharacters } from 'node:util'

export interface TableColumn {
  readonly title: string
  readonly align?: 'right'
}

/** Lines of a table. Cells may have colours; the last column is not padded. */
export function formatTable(
  columns: readonly TableColumn[],
  rows: readonly (readonly string[])[],
  head: (text: string) => string = (text) => text,
): string[] {
  const widths = columns.map(({ title }, index) =>
    Math.max(title.length, ...rows.map((row) => visibleWidth(row[index] ?? ''))),
  )
  const lay = (cells: readonly string[]): string =>
    columns
      .map(({ align }, index) => {
        const cell = cells[index] ?? ''
        const blank = ' '.repeat((widths[index] ?? 0) - visibleWidth(cell))
        if (align === 'right') return blank + cell
        return index === columns.length - 1 ? cell : cell + blank
      })
      .join('  ')
      .trimEnd()
  return [head(lay(columns.map(({ title }) => title))), ...rows.map(lay)]
}

function visibleWidth(cell: string): number {
  return stripVTControlCharacters(cell).length
}

/** `12ms`, `1.3s`, `4m`, `2h`, `3d`: short enough for a column. */
export function formatShortDuration(ms: number | null | undefined): string {
  if (ms === null || ms === undefined || !Number.isFinite(ms)) return '-'
  if (ms < 1) return ms === 0 ? '0ms' : '<1ms'
  if (ms < 1_000) return `${Math.round(ms)}ms`
  if (ms < 60_000) return `${(ms / 1_000).toFixed(ms < 10_000 ? 1 : 0)}s`
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)}m`
  if (ms < 86_400_000) return `${Math.floor(ms / 3_600_000)}h`
  return `${Math.floor(ms / 86_400_000)}d`
}

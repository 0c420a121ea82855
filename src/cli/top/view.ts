/** Renders the state of `top` as the lines of a terminal. Pure. */
import type { ClusterRow } from '../../gateway/admin/cluster-rows.ts'
import { formatTable, type TableColumn } from '../table.ts'
import { type Paint, printable } from '../terminal.ts'
import { formatDuration } from '../text.ts'
import type { TopState } from './state.ts'

const COLUMNS: readonly TableColumn[] = [
  { title: 'SERVICE' },
  { title: 'READY', align: 'right' },
  { title: 'SIZE', align: 'right' },
  { title: 'BUSY', align: 'right' },
  { title: 'QUEUE', align: 'right' },
  { title: 'REQ/S', align: 'right' },
  { title: 'FAIL/S', align: 'right' },
  { title: 'P50', align: 'right' },
  { title: 'P99', align: 'right' },
  { title: 'RECENT' },
]

export interface TopViewport {
  readonly name: string
  readonly columns: number
  readonly rows: number
}

/** One line for each row of the terminal, none longer than the terminal is wide. */
export function renderTop(
  state: TopState,
  { name, columns, rows }: TopViewport,
  paint: Paint,
): string[] {
  const all = [...state.rows.values()]
  const total = all.reduce((sum, { rate }) => sum + rate, 0)
  const title = paint('bold', `manyhost ${printable(name)}`)
  const health = state.connectionProblem
    ? paint('red', printable(state.connectionProblem))
    : `${all.length} services, ${total.toFixed(0)} requests/s`
  const failures = state.failures.slice(-5).toReversed()
  const rowCount = Math.max(1, rows - 4 - (failures.length > 0 ? failures.length + 2 : 0))
  const [head = '', ...body] = formatTable(
    COLUMNS,
    all.map((row) => renderCells(row, state, paint)),
    (text) => paint('bold', text),
  )
  // The selected service is always visible.
  const index = all.findIndex(({ url }) => url === state.selectedUrl)
  const from = Math.max(0, Math.min(index - Math.floor(rowCount / 2), body.length - rowCount))
  const marked = body.map((line, at) => `${at === index ? paint('inverse', '>') : ' '} ${line}`)
  const lines = [`${title}  ${health}`, '', `  ${head}`, ...marked.slice(from, from + rowCount)]
  if (failures.length > 0) {
    lines.push('', paint('bold', 'What failed last'))
    for (const { at, service, text, count } of failures) {
      const times = count > 1 ? ` (${count} times)` : ''
      lines.push(
        `  ${new Date(at).toLocaleTimeString('en-GB')} ${printable(`${service} ${text}`)}${times}`,
      )
    }
  }
  const keys = paint('dim', 'q quit   j k choose   + - size')
  while (lines.length < rows - 1) lines.push('')
  lines.length = Math.max(0, rows - 1)
  lines.push(state.message ? `${keys}   ${printable(state.message)}` : keys)
  return lines.map((line) => truncateLine(line, columns))
}

function renderCells(row: ClusterRow, state: TopState, paint: Paint): string[] {
  const ready = row.states.ready ?? 0
  return [
    printable(row.name),
    paint(ready >= row.size ? 'green' : 'yellow', String(ready)),
    String(row.size),
    `${row.inFlight}/${ready * row.concurrency}`,
    row.queue > 0 ? paint('yellow', String(row.queue)) : '0',
    row.rate.toFixed(1),
    row.failing > 0 ? paint('red', row.failing.toFixed(1)) : '0',
    formatDuration(row.p50),
    formatDuration(row.p99),
    renderSparkline(state.rates.get(row.url) ?? []),
  ]
}

const BARS = '\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588'

export function renderSparkline(values: readonly number[]): string {
  const max = Math.max(...values, 1)
  return values.map((value) => BARS[Math.round((value / max) * (BARS.length - 1))]).join('')
}

/** One line for each service, for output that is not a terminal. */
export function formatPlainRows(state: TopState, at: string): string {
  const rows = [...state.rows.values()].map(
    ({ name, states, size, inFlight, queue, rate, failing, p50, p99 }) =>
      `${at} ${printable(name)} ready=${states.ready ?? 0} size=${size} busy=${inFlight} queue=${queue} ` +
      `rate=${rate} failing=${failing} p50=${formatDuration(p50)} p99=${formatDuration(p99)}\n`,
  )
  return rows.join('')
}

/** Cuts a line after so many columns, without cutting its colour codes. */
export function truncateLine(line: string, columns: number): string {
  let width = 0
  let result = ''
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours begin with one
  for (const [part] of line.matchAll(/\u001b\[[\d;]*m|[^\u001b]/gu)) {
    const isColor = part.startsWith('\u001b')
    if (!isColor && ++width > columns) continue
    result += part
  }
  return result
}

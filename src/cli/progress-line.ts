/** Shows progress as one line on standard error that is drawn again and again. Shows nothing if it is not a terminal. */
import { printable } from './terminal.ts'

export interface ProgressLine {
  show(text: string): void
  /** Removes the line. */
  clear(): void
}

export function createProgressLine(stream: NodeJS.WriteStream = process.stderr): ProgressLine {
  if (!stream.isTTY) return { show: () => {}, clear: () => {} }
  let shown = ''
  return {
    show(text) {
      const line = printable(text).slice(0, Math.max(20, stream.columns - 1))
      if (line === shown) return
      shown = line
      stream.write(`\r\u001b[K${line}`)
    },
    clear() {
      if (shown) stream.write('\r\u001b[K')
      shown = ''
    },
  }
}

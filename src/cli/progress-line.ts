/** How far a long piece of work is: one line on standard error, redrawn; nothing where nobody looks. */
import { printable } from './terminal.ts'

export interface ProgressLine {
  show(text: string): void
  /** Takes the line away. */
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

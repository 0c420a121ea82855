/** How far a long piece of work is: one line on standard error, redrawn; nothing where nobody looks. */
import { printable } from './terminal.ts'

export interface Progress {
  say(text: string): void
  /** Takes the line away. */
  end(): void
}

export function progress(stream: NodeJS.WriteStream = process.stderr): Progress {
  if (!stream.isTTY) return { say: () => {}, end: () => {} }
  let shown = ''
  return {
    say(text) {
      const line = printable(text).slice(0, Math.max(20, stream.columns - 1))
      if (line === shown) return
      shown = line
      stream.write(`\r\u001b[K${line}`)
    },
    end() {
      if (shown) stream.write('\r\u001b[K')
      shown = ''
    },
  }
}

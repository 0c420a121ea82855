/** The full-screen mode of a terminal: alternate screen, no cursor, single keys. The end of the process restores the terminal. */

export interface Screen {
  readonly columns: number
  readonly rows: number
  draw(lines: readonly string[]): void
  close(): void
}

/** `onKey` gets `q`, `+`, `up`, `ctrl-c` and so on. `onResize` is called when the size of the terminal changes. */
export function openScreen(onKey: (key: string) => void, onResize: () => void): Screen {
  const { stdin, stdout } = process
  const onData = (data: Buffer): void => {
    for (const key of splitKeys(data.toString('utf8'))) onKey(key)
  }
  let isOpen = true
  const close = (): void => {
    if (!isOpen) return
    isOpen = false
    stdin.off('data', onData)
    stdout.off('resize', onResize)
    if (stdin.isTTY) stdin.setRawMode(false)
    stdin.pause()
    stdout.write('\u001b[?25h\u001b[?1049l')
  }
  stdout.write('\u001b[?1049h\u001b[?25l')
  if (stdin.isTTY) stdin.setRawMode(true)
  stdin.on('data', onData)
  stdout.on('resize', onResize)
  process.once('exit', close)
  return {
    get columns() {
      return stdout.columns || 80
    },
    get rows() {
      return stdout.rows || 24
    },
    draw(lines) {
      if (isOpen)
        stdout.write(`\u001b[H${lines.map((line) => `${line}\u001b[K`).join('\r\n')}\u001b[J`)
    },
    close,
  }
}

const KEY_NAMES: Readonly<Record<string, string>> = {
  '\u0003': 'ctrl-c',
  '\u001b[A': 'up',
  '\u001b[B': 'down',
  '\u001bOA': 'up',
  '\u001bOB': 'down',
}

function splitKeys(text: string): string[] {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: keys are recognized by them
  const found = text.match(/\u001b(?:\[|O)[A-Za-z]|[^\u001b]/gu) ?? []
  return found.map((key) => KEY_NAMES[key] ?? key)
}

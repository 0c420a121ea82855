/** Writes to the terminal: colours only where they are shown, and no text of others that could control the terminal. */
import { styleText } from 'node:util'

type Style = Parameters<typeof styleText>[0]

/** Whether a stream gets colours. A terminal does, except with NO_COLOR or TERM=dumb. With FORCE_COLOR every stream does. */
function hasColor(stream: { readonly isTTY?: boolean } = process.stdout): boolean {
  const { NO_COLOR, FORCE_COLOR, TERM } = process.env
  if (NO_COLOR) return false
  if (FORCE_COLOR !== undefined) return FORCE_COLOR !== '0' && FORCE_COLOR !== 'false'
  return stream.isTTY === true && TERM !== 'dumb'
}

/** Adds a style to a text, or answers the text as it is. */
export type Paint = (style: Style, text: string) => string

export function createPaint(stream?: { readonly isTTY?: boolean }): Paint {
  const isOn = hasColor(stream)
  return (style, text) => (isOn ? styleText(style, text, { validateStream: false }) : text)
}

/** Replaces control characters other than tabs, so that a text of others cannot move the cursor. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these characters are to be replaced
  return text.replace(/[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u202a-\u202e]/g, '\ufffd')
}

const STATE_STYLES: Readonly<Record<string, Style>> = {
  ready: 'green',
  starting: 'cyan',
  pending: 'cyan',
  unready: 'yellow',
  draining: 'yellow',
  stopped: 'dim',
  failed: 'red',
}

export function stateStyle(state: string): Style {
  return STATE_STYLES[state] ?? 'reset'
}

/** Writes, and resolves when the stream has taken the text: a pipe can be slow. */
export function write(
  text: string | Uint8Array,
  stream: NodeJS.WriteStream = process.stdout,
): Promise<void> {
  return new Promise((resolve) => {
    stream.write(text, () => resolve())
  })
}

export function writeLine(text = ''): Promise<void> {
  return write(`${text}\n`)
}

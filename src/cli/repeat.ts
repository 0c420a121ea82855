/** Prints a text again and again until Ctrl-C: in place on a terminal, and one after the other elsewhere. */
import { sleep } from '../core/time.ts'
import { abortOnInterrupt } from './interrupt.ts'
import { write } from './terminal.ts'

export async function repeatUntilInterrupted(
  render: () => Promise<string>,
  intervalMs: number,
): Promise<number> {
  const { signal, code } = abortOnInterrupt()
  const { isTTY } = process.stdout
  while (!signal.aborted) {
    const text = await render()
    // Overwriting from the upper left corner, and clearing only the rest of each line, avoids flicker.
    await write(isTTY ? `\u001b[H${text.replaceAll('\n', '\u001b[K\n')}\u001b[J` : text)
    await sleep(intervalMs, signal).catch(() => {})
  }
  return code()
}

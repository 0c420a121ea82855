/** The same picture again and again, until Ctrl-C: in place on a terminal, one below the other elsewhere. */
import { sleep } from '../core/time.ts'
import { untilInterrupted } from './interrupt.ts'
import { write } from './terminal.ts'

export async function againAndAgain(
  look: () => Promise<string>,
  interval: number,
): Promise<number> {
  const { signal, code } = untilInterrupted()
  const { isTTY } = process.stdout
  while (!signal.aborted) {
    const text = await look()
    // From the upper left corner, each line's rest and all below it cleared: without a blink.
    await write(isTTY ? `\u001b[H${text.replaceAll('\n', '\u001b[K\n')}\u001b[J` : text)
    await sleep(interval, signal).catch(() => {})
  }
  return code()
}

/** The progress of a batch on standard error: a bar on a terminal, and a line now and then elsewhere. */
import { MultiBar, Presets, type SingleBar } from 'cli-progress'
import { every, now, type Timer } from '../../core/time.ts'
import type { TaskCounts, TaskRun } from '../../tasks.ts'
import { printable } from '../terminal.ts'
import { formatCount, formatDuration } from '../text.ts'

/** How often the bar is drawn again. */
const REDRAW_INTERVAL_MS = 200
/** How often a line is written where there is no bar. */
const LINE_INTERVAL_MS = 10_000

export class TaskProgressDisplay {
  readonly #stream = process.stderr
  readonly #startedAt = now()
  #bars: MultiBar | undefined
  #bar: SingleBar | undefined
  #timer: Timer | undefined
  #run: TaskRun | undefined
  /** Answers the text that ends the line that a task has left open. */
  #endOpenLine: () => string = () => ''

  begin(run: TaskRun, endOpenLine: () => string): void {
    this.#run = run
    this.#endOpenLine = endOpenLine
    if (!this.#stream.isTTY) {
      this.#timer = every(LINE_INTERVAL_MS, () => this.#write(this.#formatLine()))
      return
    }
    const format =
      '{bar} {percentage}% | {value}/{total} | {failed} failed | {rate}/s | {left} left'
    this.#bars = new MultiBar(
      { stream: this.#stream, format, clearOnComplete: true, hideCursor: false, barsize: 24 },
      Presets.shades_classic,
    )
    this.#bar = this.#bars.create(1, 0, this.#barFields())
    this.#timer = every(REDRAW_INTERVAL_MS, () => this.#draw())
  }

  /** Writes a line for the user, above the bar. */
  printMessage(text: string): void {
    if (this.#bars) this.#bars.log(`manyhost: ${printable(text)}\n`)
    else this.#write(printable(text))
  }

  #write(text: string): void {
    this.#stream.write(`${this.#endOpenLine()}manyhost: ${text}\n`)
  }

  /** Removes the bar before the output of a task is written. The bar is drawn again by itself. */
  clearBar(): void {
    if (this.#bars) this.#stream.write('\r\u001b[K')
  }

  end(counts: TaskCounts): void {
    this.#timer?.clear()
    this.#bars?.stop()
    this.#bars = undefined
    const { succeeded, failed, cancelled, retried } = counts
    const parts = [
      `${succeeded} succeeded`,
      `${failed} failed`,
      ...(cancelled > 0 ? [`${cancelled} cancelled`] : []),
      ...(retried > 0 ? [formatCount(retried, 'more attempt')] : []),
      `in ${formatDuration(now() - this.#startedAt)}`,
    ]
    this.#write(parts.join(', '))
  }

  #draw(): void {
    const { succeeded, failed, cancelled } = (this.#run as TaskRun).counts
    const done = succeeded + failed + cancelled
    this.#bar?.setTotal(Math.max(1, done + (this.#run?.progress?.remaining ?? 0)))
    this.#bar?.update(done, this.#barFields())
  }

  #barFields(): Record<string, string | number> {
    const { rate, timeLeft } = this.#run?.progress ?? {}
    return {
      failed: this.#run?.counts.failed ?? 0,
      rate: rate ? rate.toFixed(rate < 10 ? 1 : 0) : '-',
      left: formatDuration(timeLeft),
    }
  }

  #formatLine(): string {
    const { succeeded, failed } = (this.#run as TaskRun).counts
    const remaining = this.#run?.progress?.remaining ?? 0
    const { rate, left } = this.#barFields()
    return `${succeeded} done, ${failed} failed, ${remaining} to do, ${rate}/s, ${left} left`
  }
}

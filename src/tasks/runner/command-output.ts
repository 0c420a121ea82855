/** Separates the output of one task from the marks that the launcher writes after it. */
import type { Readable } from 'node:stream'
import { deferred } from '../../core/deferred.ts'
import { MarkSplitter, SignalMessageFilter } from './mark-splitter.ts'

export type LauncherStream = 'stdout' | 'stderr'

/** Takes output of the task. Answers false when it wants no more until `Launcher.resume`. */
export type LauncherSink = (stream: LauncherStream, chunk: Buffer) => boolean

/** In place of a status: the status is above 128, and the launcher waits for a line before it goes on. */
export const WAIT_MARK = '?'

/** The output of one task on its way through the launcher's pipes, which outlive the task. */
export class CommandOutput {
  readonly #ended = deferred<number>()
  readonly #sink: LauncherSink
  readonly #pipes: Readonly<Record<LauncherStream, Readable>>
  readonly #splitters: Record<LauncherStream, MarkSplitter>
  readonly #signalMessages = new SignalMessageFilter()
  readonly #onWaitMark: () => void
  #status: number | undefined
  #hasStderrEnded = false
  #isDraining = false

  constructor(
    mark: string,
    sink: LauncherSink,
    pipes: Readonly<Record<LauncherStream, Readable>>,
    onWaitMark: () => void,
  ) {
    this.#sink = sink
    this.#onWaitMark = onWaitMark
    this.#pipes = pipes
    this.#splitters = { stdout: new MarkSplitter(mark), stderr: new MarkSplitter(mark) }
  }

  /** Resolves with the exit status of the task, when all its output was passed on; NaN: the folder cannot be entered. */
  get ended(): Promise<number> {
    return this.#ended.promise
  }

  handleChunk(stream: LauncherStream, chunk: Buffer): void {
    const { data, markText, rest } = this.#splitters[stream].feed(chunk)
    const kept = data && stream === 'stderr' ? this.#signalMessages.feed(data) : data
    if (kept) this.#pass(stream, kept)
    if (markText === undefined) return
    if (markText.trim() === WAIT_MARK) {
      this.#onWaitMark()
      if (rest) this.handleChunk(stream, rest)
      return
    }
    if (stream === 'stdout') this.#status = Number(markText)
    else this.#hasStderrEnded = true
    if (this.#status === undefined || !this.#hasStderrEnded) return
    this.#passHeldMessage(this.#status > 128)
    this.#ended.resolve(this.#status)
  }

  /** The launcher has ended: passes on all that is still in its pipes, also to a sink that wants no more. */
  drainPipes(stdout: Readable, stderr: Readable): Promise<unknown> {
    this.#isDraining = true
    const closed = [stdout, stderr].map((pipe) => {
      pipe.resume()
      return pipe.closed ? undefined : new Promise((resolve) => pipe.once('close', resolve))
    })
    return Promise.all(closed)
  }

  /** To be called after `drainPipes`. The status, if the task had ended before the launcher did. */
  finish(): number | undefined {
    for (const stream of ['stdout', 'stderr'] as const) {
      const held = this.#splitters[stream].takeHeld()
      if (held) this.#pass(stream, held)
    }
    this.#passHeldMessage(false)
    return this.#status
  }

  #passHeldMessage(bySignal: boolean): void {
    const held = this.#signalMessages.end(bySignal)
    if (held) this.#pass('stderr', held)
  }

  #pass(stream: LauncherStream, chunk: Buffer): void {
    if (this.#sink(stream, chunk) || this.#isDraining) return
    this.#pipes[stream].pause()
  }
}

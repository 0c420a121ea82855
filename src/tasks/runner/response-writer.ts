/** Writes the answer to one POST: frames are gathered into few writes, by number of outcomes, by bytes and by time. */
import type { ServerResponse } from 'node:http'
import { after, every, type Timer } from '../../core/time.ts'
import {
  encodeRunnerFrame,
  encodeRunnerJsonFrame,
  type OutputStream,
  type RunnerMessage,
  type RunOutcome,
} from './protocol.ts'

/** Gathered bytes at which they are written. */
const MAX_BUFFERED_BYTES = 65_536

/** Characters of commands at which a frame of outcomes is written. */
const MAX_OUTCOMES_LENGTH = 1_048_576

/** How often an answer has a `beat`, which shows that the runner is alive. In ms. */
export const BEAT_INTERVAL_MS = 10_000

export interface RunnerResponseOptions {
  readonly bundleSize: number
  readonly bundleWait: number
}

export class RunnerResponseWriter {
  readonly #response: ServerResponse
  readonly #options: RunnerResponseOptions
  readonly #beatTimer: Timer
  #frames: Buffer[] = []
  #bytes = 0
  #outcomes: RunOutcome[] = []
  #commandsLength = 0
  #timer: Timer | undefined

  constructor(response: ServerResponse, options: RunnerResponseOptions) {
    this.#response = response
    this.#options = options
    this.#beatTimer = every(BEAT_INTERVAL_MS, () => {
      if (!response.writableNeedDrain) response.write(encodeRunnerFrame('beat', 0))
    })
  }

  /** Answers false when the client reads more slowly than is written. */
  writeOutput(index: number, stream: OutputStream, chunk: Buffer): boolean {
    // The client is gone. The task must not wait for it.
    if (this.#response.destroyed) return true
    this.#addFrame(encodeRunnerFrame(stream, index, chunk))
    return !this.#response.writableNeedDrain
  }

  writeOutcome(outcome: RunOutcome): void {
    this.#outcomes.push(outcome)
    this.#commandsLength += outcome.command?.length ?? 0
    const { bundleSize } = this.#options
    if (this.#outcomes.length >= bundleSize || this.#commandsLength >= MAX_OUTCOMES_LENGTH)
      this.flush()
    else this.#scheduleFlush()
  }

  writeMessage(is: RunnerMessage['is'], index: number, value: unknown): void {
    this.#addFrame(encodeRunnerJsonFrame(is, index, value))
  }

  flush(): void {
    this.#timer?.clear()
    this.#timer = undefined
    if (this.#outcomes.length > 0) {
      // After all output of these tasks: a client that has read an outcome has read all output of the task.
      this.#frames.push(encodeRunnerJsonFrame('outcomes', this.#outcomes.length, this.#outcomes))
      this.#outcomes = []
      this.#commandsLength = 0
    }
    const frames = this.#frames
    this.#frames = []
    this.#bytes = 0
    if (frames.length > 0 && !this.#response.destroyed) this.#response.write(Buffer.concat(frames))
  }

  end(): void {
    this.flush()
    this.close()
    if (!this.#response.destroyed) this.#response.end(encodeRunnerFrame('end', 0))
  }

  /** To be called when the client is gone, too. */
  close(): void {
    this.#timer?.clear()
    this.#beatTimer.clear()
  }

  #addFrame(bytes: Buffer): void {
    this.#frames.push(bytes)
    this.#bytes += bytes.length
    if (this.#bytes >= MAX_BUFFERED_BYTES) this.flush()
    else this.#scheduleFlush()
  }

  #scheduleFlush(): void {
    this.#timer ??= after(this.#options.bundleWait, () => this.flush())
  }
}

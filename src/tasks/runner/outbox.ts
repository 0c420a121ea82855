/** What one answer says, gathered into few writes: at so many outcomes, so many bytes, or after so long. */
import type { ServerResponse } from 'node:http'
import { after, every, type Timer } from '../../core/time.ts'
import { frame, jsonFrame, type Message, type OutputStream, type RunOutcome } from './protocol.ts'

/** Bytes that are gathered at most. */
const FULL = 65_536

/** Longest list of outcomes in one frame, in characters of their commands. */
const FULL_OUTCOMES = 1_048_576

/** How often an answer that has nothing to say shows that it lives, in ms. */
export const BEAT = 10_000

export interface OutboxOptions {
  readonly bundleSize: number
  readonly bundleWait: number
}

export class Outbox {
  readonly #response: ServerResponse
  readonly #options: OutboxOptions
  readonly #beat: Timer
  #frames: Buffer[] = []
  #bytes = 0
  #outcomes: RunOutcome[] = []
  #commands = 0
  #timer: Timer | undefined

  constructor(response: ServerResponse, options: OutboxOptions) {
    this.#response = response
    this.#options = options
    this.#beat = every(BEAT, () => {
      if (!response.writableNeedDrain) response.write(frame('beat', 0))
    })
  }

  /** Answers false when the other side reads slower than we write. */
  output(index: number, stream: OutputStream, chunk: Buffer): boolean {
    // Nobody will make room any more, and the task must not wait for it.
    if (this.#response.destroyed) return true
    this.#put(frame(stream, index, chunk))
    return !this.#response.writableNeedDrain
  }

  outcome(outcome: RunOutcome): void {
    this.#outcomes.push(outcome)
    this.#commands += outcome.command?.length ?? 0
    const { bundleSize } = this.#options
    if (this.#outcomes.length >= bundleSize || this.#commands >= FULL_OUTCOMES) this.flush()
    else this.#soon()
  }

  say(is: Message['is'], index: number, value: unknown): void {
    this.#put(jsonFrame(is, index, value))
  }

  flush(): void {
    this.#timer?.clear()
    this.#timer = undefined
    if (this.#outcomes.length > 0) {
      // Behind all output of these tasks: who reads an outcome has read all that the task wrote.
      this.#frames.push(jsonFrame('outcomes', this.#outcomes.length, this.#outcomes))
      this.#outcomes = []
      this.#commands = 0
    }
    const frames = this.#frames
    this.#frames = []
    this.#bytes = 0
    if (frames.length > 0 && !this.#response.destroyed) this.#response.write(Buffer.concat(frames))
  }

  end(): void {
    this.flush()
    this.close()
    if (!this.#response.destroyed) this.#response.end(frame('end', 0))
  }

  /** Nobody listens any more. */
  close(): void {
    this.#timer?.clear()
    this.#beat.clear()
  }

  #put(bytes: Buffer): void {
    this.#frames.push(bytes)
    this.#bytes += bytes.length
    if (this.#bytes >= FULL) this.flush()
    else this.#soon()
  }

  #soon(): void {
    this.#timer ??= after(this.#options.bundleWait, () => this.flush())
  }
}

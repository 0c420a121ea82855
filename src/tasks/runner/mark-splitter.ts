/**
 * Finds the end of a task's output in a pipe that outlives the task. The launcher writes a mark after each task: a text that no
 * task knows, followed on standard output by the exit status of the task.
 */

export interface SplitChunk {
  /** Output of the task; absent when there is nothing to pass on yet. */
  readonly data?: Buffer
  /** Set when the mark was found: the text between the mark and the end of its line. */
  readonly markText?: string
  /** Bytes after the mark's line, if there are any. */
  readonly rest?: Buffer
}

/** The line after the mark is short: a status and a newline. */
const MAX_MARK_TAIL = 16

/** The first byte of each mark. It is rare in output, so that little output is held back. */
export const MARK_BYTE = 1

const EMPTY_CHUNK: SplitChunk = {}

export class MarkSplitter {
  readonly #mark: Buffer
  #held: Buffer | undefined

  /** @param mark begins with the byte `MARK_BYTE` */
  constructor(mark: string) {
    this.#mark = Buffer.from(mark, 'latin1')
  }

  feed(chunk: Buffer): SplitChunk {
    const bytes = this.#held ? Buffer.concat([this.#held, chunk]) : chunk
    this.#held = undefined
    const at = bytes.indexOf(this.#mark)
    if (at >= 0) {
      const from = at + this.#mark.length
      const line = bytes.indexOf(10, from)
      if (line >= 0 || bytes.length - from > MAX_MARK_TAIL) {
        const end = bytes.toString('latin1', from, line < 0 ? from : line)
        const data = at > 0 && { data: bytes.subarray(0, at) }
        const rest = line >= 0 && line + 1 < bytes.length && { rest: bytes.subarray(line + 1) }
        return { ...data, markText: end, ...rest }
      }
      return this.#hold(bytes, at)
    }
    // The last bytes may be the beginning of a mark.
    let maybe = bytes.indexOf(MARK_BYTE, Math.max(0, bytes.length - this.#mark.length + 1))
    while (maybe >= 0) {
      if (this.#mark.subarray(0, bytes.length - maybe).equals(bytes.subarray(maybe))) {
        return this.#hold(bytes, maybe)
      }
      maybe = bytes.indexOf(MARK_BYTE, maybe + 1)
    }
    return { data: bytes }
  }

  /** The bytes that are held back. To be called when no mark can come any more. */
  takeHeld(): Buffer | undefined {
    const held = this.#held
    this.#held = undefined
    return held
  }

  #hold(bytes: Buffer, from: number): SplitChunk {
    this.#held = bytes.subarray(from)
    return from > 0 ? { data: bytes.subarray(0, from) } : EMPTY_CHUNK
  }
}

/** The message of dash about a child that a signal ended, just before the mark. It comes from the launcher, not from the task. */
const SIGNAL_MESSAGE =
  /(?:Hangup|Quit|Illegal instruction|Trace\/breakpoint trap|Aborted|Bus error|Floating point exception|Killed|User defined signal [12]|Segmentation fault|Alarm clock|Terminated|Stack fault|Virtual timer expired|Profiling timer expired|I\/O possible|Power failure|Bad system call|CPU time limit exceeded|File size limit exceeded|Real-time signal \d+|Unknown signal \d+)(?: \(core dumped\))?\n$/

const MAX_SIGNAL_MESSAGE_BYTES = 64

/** Removes such a message. A last line that looks like one is held back until it is known who wrote it. */
export class SignalMessageFilter {
  #held: Buffer | undefined

  feed(chunk: Buffer): Buffer | undefined {
    const bytes = this.#held ? Buffer.concat([this.#held, chunk]) : chunk
    this.#held = undefined
    if (bytes[bytes.length - 1] !== 10) return bytes
    const tail = bytes.toString('latin1', Math.max(0, bytes.length - MAX_SIGNAL_MESSAGE_BYTES))
    const length = SIGNAL_MESSAGE.exec(tail)?.[0].length
    if (length === undefined) return bytes
    const cut = bytes.length - length
    this.#held = bytes.subarray(cut)
    return cut > 0 ? bytes.subarray(0, cut) : undefined
  }

  /** To be called at the end: the held line, unless a signal ended the task, for then the line is the launcher's. */
  end(bySignal: boolean): Buffer | undefined {
    const held = this.#held
    this.#held = undefined
    return bySignal ? undefined : held
  }
}

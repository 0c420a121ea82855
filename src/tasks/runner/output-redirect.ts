/** Output that goes to a file of the runner's machine instead of to the client. */
import { createWriteStream, type WriteStream } from 'node:fs'
import { describeError } from '../../core/errors.ts'

export class OutputRedirect {
  readonly #stream: WriteStream
  #failure: string | undefined

  /** @param onDrain called when `write` may be called again after it answered false */
  constructor(path: string, onDrain: () => void, onFailure: (message: string) => void) {
    this.#stream = createWriteStream(path, { flags: 'a' })
    this.#stream.on('drain', onDrain)
    this.#stream.on('error', (error) => {
      if (this.#failure === undefined) onFailure(`cannot write to ${path}: ${describeError(error)}`)
      this.#failure = describeError(error)
      onDrain()
    })
  }

  /** Answers false when nothing more is to be written until `onDrain`. If the file cannot be written, output is lost and tasks go on. */
  write(chunk: Buffer): boolean {
    if (this.#failure !== undefined) return true
    return this.#stream.write(chunk)
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#failure !== undefined) return resolve()
      this.#stream.once('error', () => resolve())
      this.#stream.end(() => resolve())
    })
  }
}

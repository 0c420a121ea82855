/** Outputs that go to files of the runner's machine instead of to who handed the task in. */
import { createWriteStream, type WriteStream } from 'node:fs'
import { describeError } from '../../core/errors.ts'

export class OutputRedirect {
  readonly #stream: WriteStream
  #failure: string | undefined

  /** @param onRoom called when it can take more again */
  constructor(path: string, onRoom: () => void, onFailure: (message: string) => void) {
    this.#stream = createWriteStream(path, { flags: 'a' })
    this.#stream.on('drain', onRoom)
    this.#stream.on('error', (error) => {
      if (this.#failure === undefined) onFailure(`cannot write to ${path}: ${describeError(error)}`)
      this.#failure = describeError(error)
      onRoom()
    })
  }

  /** False: wait until there is room. When the file cannot be written the task goes on and its output is lost. */
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

/** What tasks write, to our own outputs or to files. */
import { createWriteStream, type WriteStream } from 'node:fs'
import { describe } from '../../errors.ts'
import { TASK_EXIT } from '../exit.ts'
import { write } from '../terminal.ts'
import type { ServingFlags } from './asked.ts'

export class Printing {
  readonly #streams: Record<'stdout' | 'stderr', WriteStream | NodeJS.WriteStream>
  readonly #files: WriteStream[] = []

  constructor({ output, errors }: ServingFlags) {
    this.#streams = {
      stdout: output === undefined ? process.stdout : this.#file(output),
      stderr: errors === undefined ? process.stderr : this.#file(errors),
    }
  }

  async write(stream: 'stdout' | 'stderr', chunk: Uint8Array): Promise<void> {
    await write(chunk, this.#streams[stream] as NodeJS.WriteStream)
  }

  async close(): Promise<void> {
    for (const file of this.#files) await new Promise((resolve) => file.end(() => resolve(null)))
  }

  #file(path: string): WriteStream {
    const file = createWriteStream(path, { flags: 'a' })
    this.#files.push(file)
    file.on('error', (error) => {
      process.stderr.write(`manyhost: ${path}: ${describe(error)}\n`)
      process.exit(TASK_EXIT.runtime.number)
    })
    return file
  }
}

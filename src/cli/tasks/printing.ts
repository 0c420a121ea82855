/** What tasks write, to our own outputs or to files. */
import { createWriteStream, type WriteStream } from 'node:fs'
import { describe } from '../../core/errors.ts'
import { TASK_EXIT } from '../exit.ts'
import { write } from '../terminal.ts'
import type { ServingFlags } from './asked.ts'

const NEWLINE = 10

export class Printing {
  readonly #streams: Record<'stdout' | 'stderr', WriteStream | NodeJS.WriteStream>
  readonly #files: WriteStream[] = []
  /** Whose line is open: it wrote last, and no newline at the end. */
  readonly #open: { stdout?: string | undefined; stderr?: string | undefined } = {}

  constructor({ output, errors }: ServingFlags) {
    this.#streams = {
      stdout: output === undefined ? process.stdout : this.#file(output),
      stderr: errors === undefined ? process.stderr : this.#file(errors),
    }
  }

  /** What the task wrote. It begins a line of its own where the one before had no end. */
  async write(task: string, stream: 'stdout' | 'stderr', chunk: Uint8Array): Promise<void> {
    const open = this.#open[stream]
    this.#open[stream] = chunk.at(-1) === NEWLINE ? undefined : task
    const isGlued = open !== undefined && open !== task
    const to = this.#streams[stream] as NodeJS.WriteStream
    await write(isGlued ? Buffer.concat([Buffer.from('\n'), chunk]) : chunk, to)
  }

  /** What a line of our own on standard error begins with: the end of a task's line that is open there. */
  lineEnd(): string {
    if (this.#streams.stderr !== process.stderr || this.#open.stderr === undefined) return ''
    this.#open.stderr = undefined
    return '\n'
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

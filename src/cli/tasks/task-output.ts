/** Writes the output of tasks to standard output and standard error, or to files. */
import { createWriteStream, type WriteStream } from 'node:fs'
import { describeError } from '../../core/errors.ts'
import { TASK_EXIT } from '../exit.ts'
import { write } from '../terminal.ts'
import type { TaskServingFlags } from './run-options.ts'

const NEWLINE = 10

export class TaskOutputWriter {
  readonly #streams: Record<'stdout' | 'stderr', WriteStream | NodeJS.WriteStream>
  readonly #files: WriteStream[] = []
  /** The task that wrote last, if it did not end its line. */
  readonly #openLineOwner: { stdout?: string | undefined; stderr?: string | undefined } = {}

  constructor({ output, errors }: TaskServingFlags) {
    this.#streams = {
      stdout: output === undefined ? process.stdout : this.#openFile(output),
      stderr: errors === undefined ? process.stderr : this.#openFile(errors),
    }
  }

  /** Writes output of a task. It begins a new line if another task has not ended its line. */
  async write(task: string, stream: 'stdout' | 'stderr', chunk: Uint8Array): Promise<void> {
    const open = this.#openLineOwner[stream]
    this.#openLineOwner[stream] = chunk.at(-1) === NEWLINE ? undefined : task
    const isGlued = open !== undefined && open !== task
    const to = this.#streams[stream] as NodeJS.WriteStream
    await write(isGlued ? Buffer.concat([Buffer.from('\n'), chunk]) : chunk, to)
  }

  /** Answers a line end if a task has not ended its line on standard error, for a message that follows. */
  endOpenLine(): string {
    if (this.#streams.stderr !== process.stderr || this.#openLineOwner.stderr === undefined)
      return ''
    this.#openLineOwner.stderr = undefined
    return '\n'
  }

  async close(): Promise<void> {
    for (const file of this.#files) await new Promise((resolve) => file.end(() => resolve(null)))
  }

  #openFile(path: string): WriteStream {
    const file = createWriteStream(path, { flags: 'a' })
    this.#files.push(file)
    file.on('error', (error) => {
      process.stderr.write(`manyhost: ${path}: ${describeError(error)}\n`)
      process.exit(TASK_EXIT.runtime.number)
    })
    return file
  }
}

/** The output of tasks: stored in files below one folder, one for each task and stream, or given to `onOutput` line by line. */
import { mkdirSync, rmSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type Deferred, deferred } from '../../core/deferred.ts'
import { describeError } from '../../core/errors.ts'
import { resolveWithin, sleep } from '../../core/time.ts'
import { catchRejection, FirstFailureReporter } from '../../core/user-functions.ts'
import { classifyDatabaseError } from '../../store/errors.ts'
import type { Task } from '../model/task.ts'
import type { OutputStream } from '../runner/protocol.ts'
import type { ProblemReporter } from './problem-reporter.ts'
import { storeRetryDelay } from './store-retry.ts'

/** Takes output of a task: whole lines, if they are shorter than 64 KiB. The runner waits for its promise. */
export type OnOutput = (
  task: Task,
  stream: 'stdout' | 'stderr',
  chunk: Uint8Array,
) => void | Promise<void>

/** A longer line is given in parts. */
const MAX_LINE_BYTES = 65_536

/** Longest wait for one promise of `onOutput`, in ms. */
const CALLBACK_TIMEOUT_MS = 60_000

const EXTENSIONS = { stdout: 'out', stderr: 'err', csv: 'csv' } as const
const PATH_FIELDS = { stdout: 'outpath', stderr: 'errpath', csv: 'csvpath' } as const

export interface OutputPaths {
  readonly outpath?: string
  readonly errpath?: string
  readonly csvpath?: string
  /** Whether the output was stored, also if there was none: a task that wrote nothing has no file. */
  readonly captured?: boolean
}

export interface TaskOutputsParts {
  /** Undefined: nothing can be stored. */
  readonly folder: string | undefined
  readonly capture: boolean
  readonly onOutput: OnOutput | undefined
  readonly problems: Pick<ProblemReporter, 'report'>
}

interface OutputFile {
  readonly path: string
  file: FileHandle | undefined
  lastWrite: Promise<void>
  /** Whether nothing more is to be written to it. */
  isClosed: boolean
}

export class TaskOutputs {
  readonly #parts: TaskOutputsParts
  readonly #files = new Map<string, OutputFile>()
  readonly #partialLines = new Map<string, Buffer>()
  readonly #closing = new AbortController()
  /** The waits for promises of `onOutput`: `close` ends them. */
  readonly #pendingWaits = new Set<Deferred<true>>()
  readonly #failure: FirstFailureReporter

  constructor(parts: TaskOutputsParts) {
    this.#parts = parts
    this.#failure = new FirstFailureReporter({
      what: 'onOutput of the tasks',
      instead: 'the task goes on without it',
      report: ({ message }) => parts.problems.report(message),
    })
    if (parts.folder !== undefined && parts.capture) {
      mkdirSync(parts.folder, { recursive: true, mode: 0o700 })
    }
  }

  /** Whether the output of a task is stored: that of all tasks, or of those with the tag `capture`. */
  isCaptured(task: Task): boolean {
    return this.#parts.folder !== undefined && (this.#parts.capture || task.tag.capture === true)
  }

  /** Whether anything is done with the output of a task. */
  isWanted(task: Task): boolean {
    return this.isCaptured(task) || this.#parts.onOutput !== undefined
  }

  /** Resolves when the chunk was taken. The sender of the output waits for that. */
  async write(task: Task, stream: OutputStream, chunk: Uint8Array): Promise<void> {
    if (this.isCaptured(task) || stream === 'csv') return this.#appendToFile(task, stream, chunk)
    const { onOutput } = this.#parts
    if (!onOutput) return
    const key = `${task.id}.${stream}`
    const begun = this.#partialLines.get(key)
    const bytes = begun ? Buffer.concat([begun, chunk]) : Buffer.from(chunk)
    const end = bytes.lastIndexOf(10) + 1
    const rest = bytes.length - end
    const cut = rest > MAX_LINE_BYTES ? bytes.length : end
    if (cut < bytes.length) this.#partialLines.set(key, bytes.subarray(cut))
    else this.#partialLines.delete(key)
    if (cut > 0) await this.#callOnOutput(task, stream, bytes.subarray(0, cut))
  }

  /**
   * Gives output to the function of the user, and waits for its promise, so that the function sets the pace. If the function
   * throws or never ends, that is reported and the task goes on.
   */
  async #callOnOutput(...output: Parameters<OnOutput>): Promise<void> {
    const { onOutput } = this.#parts
    if (!onOutput || this.#closing.signal.aborted) return
    try {
      const taken: unknown = onOutput(...output)
      if (!(taken instanceof Promise))
        return catchRejection(taken, (error) => this.#failure.reportThrown(error))
      if (!(await this.#settlesInTime(taken))) this.#failure.reportStall(CALLBACK_TIMEOUT_MS)
    } catch (error) {
      this.#failure.reportThrown(error)
    }
  }

  /** Whether a promise settles in time; true at once when this is closed. */
  async #settlesInTime(taken: Promise<unknown>): Promise<boolean> {
    // Of its own for each wait: a race with one long-lived promise would keep every other promise of the race alive.
    const closed = deferred<true>()
    this.#pendingWaits.add(closed)
    try {
      const ended = taken.then((): true => true)
      const race = Promise.race([ended, closed.promise])
      return (await resolveWithin(CALLBACK_TIMEOUT_MS, race)) === true
    } finally {
      this.#pendingWaits.delete(closed)
    }
  }

  /**
   * The attempt has ended. Resolves with the files when all its output is in them.
   * @param message of the task server, added to a captured standard error
   */
  async finish(task: Task, message: string | undefined): Promise<OutputPaths> {
    if (message !== undefined && this.isCaptured(task)) {
      await this.#appendToFile(task, 'stderr', Buffer.from(`manyhost: ${message}\n`))
    }
    const paths: { -readonly [Name in keyof OutputPaths]: OutputPaths[Name] } = {}
    if (this.isCaptured(task)) paths.captured = true
    for (const stream of ['stdout', 'stderr', 'csv'] as const) {
      const key = `${task.id}.${stream}`
      const rest = this.#partialLines.get(key)
      if (rest) {
        this.#partialLines.delete(key)
        if (stream !== 'csv') await this.#callOnOutput(task, stream, rest)
      }
      const output = this.#files.get(key)
      if (!output) continue
      this.#files.delete(key)
      await output.lastWrite
      await output.file?.close().catch(() => {})
      paths[PATH_FIELDS[stream]] = output.path
    }
    return paths
  }

  /** The attempt did not end: its output is removed, for the next attempt writes it again. */
  discard(task: Task): void {
    for (const stream of ['stdout', 'stderr', 'csv'] as const) {
      const key = `${task.id}.${stream}`
      this.#partialLines.delete(key)
      const output = this.#files.get(key)
      if (!output) continue
      this.#files.delete(key)
      output.isClosed = true
      void output.lastWrite.then(async () => {
        await output.file?.close().catch(() => {})
        rmSync(output.path, { force: true })
      })
    }
  }

  /** Ends all waits, for `onOutput` and for space on the disk. */
  close(): void {
    this.#closing.abort()
    for (const wait of this.#pendingWaits) wait.resolve(true)
  }

  #appendToFile(task: Task, stream: OutputStream, chunk: Uint8Array): Promise<void> {
    const { folder } = this.#parts
    if (folder === undefined) return Promise.resolve()
    const key = `${task.id}.${stream}`
    let output = this.#files.get(key)
    if (!output) {
      // The fence separates the files of one claim from those of a claim that was lost.
      const name = task.fence > 1 ? `${task.id}.${task.fence}` : task.id
      const path = join(folder, outputSubfolder(task.id), `${name}.${EXTENSIONS[stream]}`)
      output = { path, file: undefined, lastWrite: Promise.resolve(), isClosed: false }
      this.#files.set(key, output)
    }
    const known = output
    known.lastWrite = known.lastWrite.then(() => this.#writeAll(known, chunk))
    return known.lastWrite
  }

  /** Writes the whole chunk; while the disk is full, it waits for space. Never rejects. */
  async #writeAll(output: OutputFile, chunk: Uint8Array): Promise<void> {
    let failures = 0
    for (let rest = chunk; rest.length > 0 && !output.isClosed; ) {
      try {
        output.file ??= await createOutputFile(output.path)
        // A disk that is nearly full takes a part.
        rest = rest.subarray((await output.file.write(rest)).bytesWritten)
        failures = 0
      } catch (error) {
        this.#parts.problems.report(`cannot write to ${output.path}: ${describeError(error)}`)
        // Output with a gap would be wrong: what comes after another error is not written.
        if (classifyDatabaseError(error) !== 'full') output.isClosed = true
        else
          await sleep(storeRetryDelay(failures++), this.#closing.signal).catch(() => {
            output.isClosed = true
          })
      }
    }
  }
}

/** For this user alone: output may hold secrets. */
async function createOutputFile(path: string): Promise<FileHandle> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  return open(path, 'w', 0o600)
}

/** A folder for the tasks of each minute (65,536 ms): an id begins with the time in ms, in hexadecimal. */
function outputSubfolder(id: string): string {
  return id.slice(0, 8)
}

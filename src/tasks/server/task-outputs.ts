/** What tasks write: kept by task in files below one folder, or handed on line by line. */
import { mkdirSync, rmSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { describeError } from '../../core/errors.ts'
import { resolveWithin, sleep } from '../../core/time.ts'
import { catchRejection, FirstFailureReporter } from '../../core/user-functions.ts'
import { classifyDatabaseError } from '../../store/errors.ts'
import type { Task } from '../model/task.ts'
import type { OutputStream } from '../runner/protocol.ts'

/** Takes what a task wrote, whole lines where they are shorter than 64 KiB. The runner waits for its promise. */
export type OnOutput = (
  task: Task,
  stream: 'stdout' | 'stderr',
  chunk: Uint8Array,
) => void | Promise<void>

/** Longest line that is kept together. */
const MAX_LINE_BYTES = 65_536

/** How long a task waits for one promise of `onOutput`, in ms. */
const CALLBACK_TIMEOUT_MS = 60_000

/** Between two tries of a disk that is full, in ms. */
const RETRY_DELAY_MS = 500

const EXTENSIONS = { stdout: 'out', stderr: 'err', csv: 'csv' } as const

export interface OutputPaths {
  readonly outpath?: string
  readonly errpath?: string
  readonly csvpath?: string
  /** It was kept, whatever there was of it: a task that wrote nothing has no file. */
  readonly captured?: boolean
}

export interface TaskOutputsParts {
  /** Undefined: nothing can be kept. */
  readonly folder: string | undefined
  readonly capture: boolean
  readonly onOutput: OnOutput | undefined
  onProblem(message: string): void
}

interface OutputFile {
  readonly path: string
  file: FileHandle | undefined
  lastWrite: Promise<void>
  /** Nothing more is written to it. */
  isClosed: boolean
}

export class TaskOutputs {
  readonly #parts: TaskOutputsParts
  readonly #files = new Map<string, OutputFile>()
  readonly #partialLines = new Map<string, Buffer>()
  readonly #closing = new AbortController()
  /** Ends the waits for promises of `onOutput`. */
  readonly #pendingWaits = new Set<() => void>()
  readonly #failure: FirstFailureReporter

  constructor(parts: TaskOutputsParts) {
    this.#parts = parts
    this.#failure = new FirstFailureReporter({
      what: 'onOutput of the tasks',
      instead: 'the task goes on without it',
      report: ({ message }) => parts.onProblem(message),
    })
    if (parts.folder !== undefined && parts.capture) {
      mkdirSync(parts.folder, { recursive: true, mode: 0o700 })
    }
  }

  /** The tag `capture` keeps what one task writes whatever the server's own way is. */
  isCaptured(task: Task): boolean {
    return this.#parts.folder !== undefined && (this.#parts.capture || task.tag.capture === true)
  }

  /** Resolves when it was taken: who sends more waits for that. */
  async write(task: Task, stream: OutputStream, chunk: Uint8Array): Promise<void> {
    if (this.isCaptured(task) || stream === 'csv') return this.#appendToFile(task, stream, chunk)
    const { onOutput } = this.#parts
    if (!onOutput) return
    const key = `${task.id}.${stream}`
    const held = this.#partialLines.get(key)
    const bytes = held ? Buffer.concat([held, chunk]) : Buffer.from(chunk)
    const end = bytes.lastIndexOf(10) + 1
    const rest = bytes.length - end
    const cut = rest > MAX_LINE_BYTES ? bytes.length : end
    if (cut < bytes.length) this.#partialLines.set(key, bytes.subarray(cut))
    else this.#partialLines.delete(key)
    if (cut > 0) await this.#callOnOutput(task, stream, bytes.subarray(0, cut))
  }

  /**
   * Gives output to the function of the user, and waits for its promise, so that the function sets the pace. A task is
   * not the worse for a function that fails, or never comes to an end.
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

  /** Whether it settled in time; true at once when this is closed. Not a race with one promise, which would keep each. */
  async #settlesInTime(taken: Promise<unknown>): Promise<boolean> {
    let wake: () => void = () => undefined
    const closed = new Promise<true>((resolve) => {
      wake = () => resolve(true)
    })
    this.#pendingWaits.add(wake)
    try {
      const ended = taken.then((): true => true)
      return (await resolveWithin(CALLBACK_TIMEOUT_MS, Promise.race([ended, closed]))) === true
    } finally {
      this.#pendingWaits.delete(wake)
    }
  }

  /** All that the task wrote is there; answers where. */
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
      const kept = this.#files.get(key)
      if (!kept) continue
      this.#files.delete(key)
      await kept.lastWrite
      await kept.file?.close().catch(() => {})
      paths[stream === 'stdout' ? 'outpath' : stream === 'stderr' ? 'errpath' : 'csvpath'] =
        kept.path
    }
    return paths
  }

  /** The attempt was cut off: what it wrote is thrown away, for it will be written again. */
  discard(task: Task): void {
    for (const stream of ['stdout', 'stderr', 'csv'] as const) {
      const key = `${task.id}.${stream}`
      this.#partialLines.delete(key)
      const kept = this.#files.get(key)
      if (!kept) continue
      this.#files.delete(key)
      kept.isClosed = true
      void kept.lastWrite.then(async () => {
        await kept.file?.close().catch(() => {})
        rmSync(kept.path, { force: true })
      })
    }
  }

  /** Waits for room no more. */
  close(): void {
    this.#closing.abort()
    for (const wake of this.#pendingWaits) wake()
  }

  #appendToFile(task: Task, stream: OutputStream, chunk: Uint8Array): Promise<void> {
    const { folder } = this.#parts
    if (folder === undefined) return Promise.resolve()
    const key = `${task.id}.${stream}`
    let kept = this.#files.get(key)
    if (!kept) {
      // The fence keeps attempts of one claim apart from those of another that was taken back.
      const name = task.fence > 1 ? `${task.id}.${task.fence}` : task.id
      const path = join(folder, outputSubfolder(task.id), `${name}.${EXTENSIONS[stream]}`)
      kept = { path, file: undefined, lastWrite: Promise.resolve(), isClosed: false }
      this.#files.set(key, kept)
    }
    const one = kept
    one.lastWrite = one.lastWrite.then(() => this.#writeAll(one, chunk))
    return one.lastWrite
  }

  /** All of it: where no space is left, it waits for some. Never rejects. */
  async #writeAll(kept: OutputFile, chunk: Uint8Array): Promise<void> {
    for (let rest = chunk; rest.length > 0 && !kept.isClosed; ) {
      try {
        kept.file ??= await createOutputFile(kept.path)
        // A disk that is nearly full takes a part.
        rest = rest.subarray((await kept.file.write(rest)).bytesWritten)
      } catch (error) {
        this.#parts.onProblem(`cannot write to ${kept.path}: ${describeError(error)}`)
        // With a piece missing, the rest would be wrong.
        if (classifyDatabaseError(error) !== 'full') kept.isClosed = true
        else
          await sleep(RETRY_DELAY_MS, this.#closing.signal).catch(() => {
            kept.isClosed = true
          })
      }
    }
  }
}

/** Of this user alone: what tasks write may be anything. */
async function createOutputFile(path: string): Promise<FileHandle> {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  return open(path, 'w', 0o600)
}

/** A folder holds the tasks of one minute (65,536 ms): the first part of an id is its time. */
function outputSubfolder(id: string): string {
  return id.slice(0, 8)
}

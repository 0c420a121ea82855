/**
 * A small shell that lives on and starts one task after the other. Node's own `spawn` costs this process 2 to 3 ms a
 * task; a small shell forks in a fifth of that (design.md has the figures).
 *
 * The launcher leads a process group of its own, and its tasks are in it: one signal to the group reaches all that a
 * task started. The launcher traps the polite ones and lives on; SIGKILL ends it too, and a new one takes its place.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { constants } from 'node:os'
import type { Readable } from 'node:stream'
import { describe } from '../../core/errors.ts'
import { within } from '../../core/time.ts'
import { type Pipe, readPipe } from '../../posix/pipes.ts'
import { quote } from './quote.ts'
import { MARK_BYTE, Obituary, Splitter } from './splitter.ts'

/** What a launcher is to start: all of it checked, nothing here holds a NUL. */
export interface Job {
  /** Words of the command: `['/bin/sh', '-c', 'echo hi']`. */
  readonly argv: readonly string[]
  /**
   * Its first word may be a built-in of the launcher's shell, as `echo` is, so that it must run in a fork of it. A fork
   * and a program cost as little as a program that the launcher starts.
   */
  readonly isForked: boolean
  /** Added to the runner's environment. Names are names of the shell. */
  readonly env: Readonly<Record<string, string>>
  readonly cwd?: string | undefined
  /** Awaited where a signal ended it, before what it left behind in its group is hung up. Never rejects. */
  readonly lingering: () => Promise<void>
}

export type Stream = 'stdout' | 'stderr'

/** Takes what the task writes; answers false when it wants no more until `resume`. */
export type Sink = (stream: Stream, chunk: Buffer) => boolean

export interface Ended {
  /** 0 to 255; 128 + n for signal n. -3 when it could not be started. */
  readonly status: number
  /** Why, where the status alone does not say. */
  readonly message?: string
}

export interface LauncherOptions {
  /** What it writes 0 to, to enter its control group. */
  readonly entry?: string | undefined
  /** For standard output and error; without them these are sockets, which a task cannot open. */
  readonly pipes?: readonly Pipe[]
}

/** The shell that starts all tasks. */
export const LAUNCHER = '/bin/sh'

/** How long the pipes of a launcher that ended may be held open by one who left its group. */
const PIPE_PATIENCE = 500

/** In place of a status: what `cd` failed at. */
const NO_FOLDER = 'folder'

/** A function of the launcher's; no task is to have a program of this name. */
const END = '_manyhost_end'

/** In place of a status: it is above 128, and the launcher waits for a line before it goes on. */
const HELD = '?'

/**
 * First it enters its control group, where there is one. The end of a task: what it left behind is hung up, then come the marks. Descriptor 9 is standard error. Trapped signals
 * interrupt a `read`; a line that nobody waited for is an empty one to the shell.
 */
function prologue(mark: string, entry: string | undefined): string {
  return (
    (entry === undefined ? '' : `echo 0 >${quote(entry)} || exit 126\n`) +
    `trap : HUP INT QUIT TERM USR1 USR2 PIPE ALRM\n` +
    `exec 9>&2 2>/dev/null\n` +
    `${END}() { case $1 in 129|1[3-9]?|2??) echo ${quote(mark)}" ${HELD}"; read -r _ || read -r _ || read -r _; esac\n` +
    `kill -HUP 0; echo ${quote(mark)}" $1"; echo ${quote(mark)} >&9; }\n`
  )
}

export class Launcher {
  readonly #child: ChildProcess
  readonly #mark = `${String.fromCharCode(MARK_BYTE)}${randomBytes(16).toString('hex')}`
  /** Resolves when it was reaped. */
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null; why?: string }>
  readonly #stdout: Readable | null
  readonly #stderr: Readable | null
  #current: Run | undefined
  #hasExited = false

  /** Never throws: a shell that cannot be started ends at once, and says why to who runs something. */
  constructor(
    env: Readonly<Record<string, string | undefined>> = process.env,
    { entry, pipes = [] }: LauncherOptions = {},
  ) {
    const [output, errors] = pipes
    // `detached`: a session and group of its own.
    this.#child = spawn(LAUNCHER, [], {
      detached: true,
      env,
      stdio: ['pipe', output?.writeEnd ?? 'pipe', errors?.writeEnd ?? 'pipe'],
    })
    const { stdin } = this.#child
    this.#stdout = output ? readPipe(output) : this.#child.stdout
    this.#stderr = errors ? readPipe(errors) : this.#child.stderr
    this.exited = new Promise((resolve) => {
      const over = (end: { code: number | null; signal: NodeJS.Signals | null; why?: string }) => {
        this.#hasExited = true
        resolve(end)
      }
      this.#child.once('exit', (code, signal) => over({ code, signal }))
      this.#child.on('error', (error) => over({ code: null, signal: null, why: describe(error) }))
    })
    stdin?.on('error', () => {})
    for (const [name, stream] of [
      ['stdout', this.#stdout],
      ['stderr', this.#stderr],
    ] as const) {
      stream?.on('error', () => {})
      // Between tasks nobody should write; one that left its group is heard by nobody.
      stream?.on('data', (chunk: Buffer) => this.#current?.take(name, chunk))
    }
    stdin?.write(prologue(this.#mark, entry))
  }

  /** Leader of the group that all its tasks are in; `undefined` when it could not be started. */
  get pid(): number | undefined {
    return this.#child.pid
  }

  get isAlive(): boolean {
    return this.#child.pid !== undefined && !this.#hasExited
  }

  get isBusy(): boolean {
    return this.#current !== undefined
  }

  /** Starts one task; the one before must have ended. Never rejects. */
  async run(job: Job, sink: Sink): Promise<Ended> {
    const { stdin } = this.#child
    const [stdout, stderr] = [this.#stdout, this.#stderr]
    if (!this.isAlive || !stdin || !stdout || !stderr) {
      const { why } = await this.exited
      return { status: -3, message: `the shell that starts tasks cannot be started: ${why ?? ''}` }
    }
    const run = new Run(this.#mark, sink, { stdout, stderr }, async () => {
      await job.lingering()
      stdin.write('\n')
    })
    this.#current = run
    stdin.write(this.#line(job))
    const ended = await Promise.race([run.ended, this.exited])
    if (typeof ended === 'number') {
      this.#current = undefined
      if (Number.isNaN(ended)) {
        // The launcher's own words would have the number of one of its lines.
        const message = `cannot enter folder '${job.cwd}'`
        sink('stderr', Buffer.from(`${message}\n`))
        return { status: 127, message }
      }
      return { status: ended }
    }
    await within(PIPE_PATIENCE, run.flushed(stdout, stderr))
    this.#current = undefined
    return lost(ended, run.finish())
  }

  /** Lets the output of the present task flow again. */
  resume(): void {
    this.#stdout?.resume()
    this.#stderr?.resume()
  }

  /** To the whole group: all that the task started, unless it left the group. */
  signal(name: NodeJS.Signals): void {
    if (!this.isAlive || this.#child.pid === undefined) return
    try {
      process.kill(-this.#child.pid, name)
    } catch {
      // Just gone.
    }
  }

  /** Ends the launcher with all that is left in its group. Resolves when it was reaped. */
  async close(): Promise<void> {
    this.signal('SIGKILL')
    await this.exited
    if (!this.#current) {
      this.#stdout?.destroy()
      this.#stderr?.destroy()
    }
    this.#child.stdin?.destroy()
  }

  #line({ argv, isForked, env, cwd }: Job): string {
    let words = ''
    for (const name in env) words += `${name}=${quote(env[name] as string)} `
    for (const word of argv) words += `${quote(word)} `
    const command = `${isForked ? `( ${words})` : words} </dev/null 2>&9 9>&-`
    if (cwd === undefined) return `${command}; ${END} $?\n`
    // The launcher itself goes there, each time: the task before may have wanted another, or have replaced this one.
    return `if cd -P -- ${quote(cwd)}; then ${command}; ${END} $?; else ${END} ${NO_FOLDER}; fi\n`
  }
}

/** One task's output on its way through the launcher's pipes. */
class Run {
  readonly ended: Promise<number>
  readonly #sink: Sink
  readonly #pipes: Readonly<Record<Stream, Readable>>
  readonly #splitters: Record<Stream, Splitter>
  readonly #obituary = new Obituary()
  readonly #held: () => void
  #end!: (status: number) => void
  #status: number | undefined
  #errorsEnded = false
  #isLate = false

  constructor(
    mark: string,
    sink: Sink,
    pipes: Readonly<Record<Stream, Readable>>,
    held: () => void,
  ) {
    this.#sink = sink
    this.#held = held
    this.#pipes = pipes
    this.#splitters = { stdout: new Splitter(mark), stderr: new Splitter(mark) }
    this.ended = new Promise((resolve) => {
      this.#end = resolve
    })
  }

  take(stream: Stream, chunk: Buffer): void {
    const { data, end, rest } = this.#splitters[stream].feed(chunk)
    const kept = data && stream === 'stderr' ? this.#obituary.feed(data) : data
    if (kept) this.#pass(stream, kept)
    if (end === undefined) return
    if (end.trim() === HELD) {
      this.#held()
      if (rest) this.take(stream, rest)
      return
    }
    if (stream === 'stdout') this.#status = Number(end)
    else this.#errorsEnded = true
    if (this.#status === undefined || !this.#errorsEnded) return
    this.#passHeld(this.#status > 128)
    this.#end(this.#status)
  }

  /** The launcher has ended: all that is still in its pipes, whoever has room for it. */
  flushed(stdout: Readable, stderr: Readable): Promise<unknown> {
    this.#isLate = true
    const closed = [stdout, stderr].map((pipe) => {
      pipe.resume()
      return pipe.closed ? undefined : new Promise((resolve) => pipe.once('close', resolve))
    })
    return Promise.all(closed)
  }

  /** The status, had it come after all. */
  finish(): number | undefined {
    for (const stream of ['stdout', 'stderr'] as const) {
      const held = this.#splitters[stream].rest()
      if (held) this.#pass(stream, held)
    }
    this.#passHeld(false)
    return this.#status
  }

  #passHeld(bySignal: boolean): void {
    const held = this.#obituary.end(bySignal)
    if (held) this.#pass('stderr', held)
  }

  #pass(stream: Stream, chunk: Buffer): void {
    if (this.#sink(stream, chunk) || this.#isLate) return
    this.#pipes[stream].pause()
  }
}

function lost(
  end: { code: number | null; signal: NodeJS.Signals | null; why?: string },
  status: number | undefined,
): Ended {
  if (status !== undefined) return { status }
  if (end.signal) return { status: 128 + constants.signals[end.signal] }
  const why = end.why ?? `its shell ended with ${end.code}: no process could be made`
  return { status: -3, message: `the task could not be started: ${why}` }
}

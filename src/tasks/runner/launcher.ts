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
import { describeError } from '../../core/errors.ts'
import { resolveWithin } from '../../core/time.ts'
import { openPipeReader, type Pipe } from '../../posix/pipes.ts'
import { alwaysQuoteShellWord } from '../../posix/shell-words.ts'
import { MARK_BYTE, MarkSplitter, SignalMessageFilter } from './mark-splitter.ts'

/** What a launcher is to start: all of it checked, nothing here holds a NUL. */
export interface LaunchCommand {
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
  readonly waitForGroupExit: () => Promise<void>
}

export type LauncherStream = 'stdout' | 'stderr'

/** Takes what the task writes; answers false when it wants no more until `resume`. */
export type LauncherSink = (stream: LauncherStream, chunk: Buffer) => boolean

export interface LaunchResult {
  /** 0 to 255; 128 + n for signal n. -3 when it could not be started. */
  readonly status: number
  /** Why, where the status alone does not say. */
  readonly message?: string
}

export interface LauncherOptions {
  /** What it writes 0 to, to enter its control group. */
  readonly cgroupEntry?: string | undefined
  /** For standard output and error; without them these are sockets, which a task cannot open. */
  readonly pipes?: readonly Pipe[]
}

/** The shell that starts all tasks. */
export const LAUNCHER_SHELL = '/bin/sh'

/** How long the pipes of a launcher that ended may be held open by one who left its group. */
const PIPE_CLOSE_TIMEOUT_MS = 500

/** In place of a status: what `cd` failed at. */
const CD_FAILED_MARK = 'folder'

/** A function of the launcher's; no task is to have a program of this name. */
const END_FUNCTION = '_manyhost_end'

/** In place of a status: it is above 128, and the launcher waits for a line before it goes on. */
const WAIT_MARK = '?'

/**
 * First it enters its control group, where there is one. The end of a task: what it left behind is hung up, then come the marks. Descriptor 9 is standard error. Trapped signals
 * interrupt a `read`; a line that nobody waited for is an empty one to the shell.
 */
function launcherPrologue(mark: string, entry: string | undefined): string {
  return (
    (entry === undefined ? '' : `echo 0 >${alwaysQuoteShellWord(entry)} || exit 126\n`) +
    `trap : HUP INT QUIT TERM USR1 USR2 PIPE ALRM\n` +
    `exec 9>&2 2>/dev/null\n` +
    `${END_FUNCTION}() { case $1 in 129|1[3-9]?|2??) echo ${alwaysQuoteShellWord(mark)}" ${WAIT_MARK}"; read -r _ || read -r _ || read -r _; esac\n` +
    `kill -HUP 0; echo ${alwaysQuoteShellWord(mark)}" $1"; echo ${alwaysQuoteShellWord(mark)} >&9; }\n`
  )
}

export class Launcher {
  readonly #child: ChildProcess
  readonly #mark = `${String.fromCharCode(MARK_BYTE)}${randomBytes(16).toString('hex')}`
  /** Resolves when it was reaped. */
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null; why?: string }>
  readonly #stdout: Readable | null
  readonly #stderr: Readable | null
  #currentOutput: CommandOutput | undefined
  #hasExited = false

  /** Never throws: a shell that cannot be started ends at once, and says why to who runs something. */
  constructor(
    env: Readonly<Record<string, string | undefined>> = process.env,
    { cgroupEntry: entry, pipes = [] }: LauncherOptions = {},
  ) {
    const [output, errors] = pipes
    // `detached`: a session and group of its own.
    this.#child = spawn(LAUNCHER_SHELL, [], {
      detached: true,
      env,
      stdio: ['pipe', output?.writeEnd ?? 'pipe', errors?.writeEnd ?? 'pipe'],
    })
    const { stdin } = this.#child
    this.#stdout = output ? openPipeReader(output) : this.#child.stdout
    this.#stderr = errors ? openPipeReader(errors) : this.#child.stderr
    this.exited = new Promise((resolve) => {
      const over = (end: { code: number | null; signal: NodeJS.Signals | null; why?: string }) => {
        this.#hasExited = true
        resolve(end)
      }
      this.#child.once('exit', (code, signal) => over({ code, signal }))
      this.#child.on('error', (error) =>
        over({ code: null, signal: null, why: describeError(error) }),
      )
    })
    stdin?.on('error', () => {})
    for (const [name, stream] of [
      ['stdout', this.#stdout],
      ['stderr', this.#stderr],
    ] as const) {
      stream?.on('error', () => {})
      // Between tasks nobody should write; one that left its group is heard by nobody.
      stream?.on('data', (chunk: Buffer) => this.#currentOutput?.handleChunk(name, chunk))
    }
    stdin?.write(launcherPrologue(this.#mark, entry))
  }

  /** Leader of the group that all its tasks are in; `undefined` when it could not be started. */
  get pid(): number | undefined {
    return this.#child.pid
  }

  get isAlive(): boolean {
    return this.#child.pid !== undefined && !this.#hasExited
  }

  get isBusy(): boolean {
    return this.#currentOutput !== undefined
  }

  /** Starts one task; the one before must have ended. Never rejects. */
  async run(job: LaunchCommand, sink: LauncherSink): Promise<LaunchResult> {
    const { stdin } = this.#child
    const [stdout, stderr] = [this.#stdout, this.#stderr]
    if (!this.isAlive || !stdin || !stdout || !stderr) {
      const { why } = await this.exited
      return { status: -3, message: `the shell that starts tasks cannot be started: ${why ?? ''}` }
    }
    const run = new CommandOutput(this.#mark, sink, { stdout, stderr }, async () => {
      await job.waitForGroupExit()
      stdin.write('\n')
    })
    this.#currentOutput = run
    stdin.write(this.#formatCommandLine(job))
    const ended = await Promise.race([run.ended, this.exited])
    if (typeof ended === 'number') {
      this.#currentOutput = undefined
      if (Number.isNaN(ended)) {
        // The launcher's own words would have the number of one of its lines.
        const message = `cannot enter folder '${job.cwd}'`
        sink('stderr', Buffer.from(`${message}\n`))
        return { status: 127, message }
      }
      return { status: ended }
    }
    await resolveWithin(PIPE_CLOSE_TIMEOUT_MS, run.drainPipes(stdout, stderr))
    this.#currentOutput = undefined
    return describeLauncherExit(ended, run.finish())
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
    if (!this.#currentOutput) {
      this.#stdout?.destroy()
      this.#stderr?.destroy()
    }
    this.#child.stdin?.destroy()
  }

  #formatCommandLine({ argv, isForked, env, cwd }: LaunchCommand): string {
    let words = ''
    for (const name in env) words += `${name}=${alwaysQuoteShellWord(env[name] as string)} `
    for (const word of argv) words += `${alwaysQuoteShellWord(word)} `
    const command = `${isForked ? `( ${words})` : words} </dev/null 2>&9 9>&-`
    if (cwd === undefined) return `${command}; ${END_FUNCTION} $?\n`
    // The launcher itself goes there, each time: the task before may have wanted another, or have replaced this one.
    return `if cd -P -- ${alwaysQuoteShellWord(cwd)}; then ${command}; ${END_FUNCTION} $?; else ${END_FUNCTION} ${CD_FAILED_MARK}; fi\n`
  }
}

/** One task's output on its way through the launcher's pipes. */
class CommandOutput {
  readonly ended: Promise<number>
  readonly #sink: LauncherSink
  readonly #pipes: Readonly<Record<LauncherStream, Readable>>
  readonly #splitters: Record<LauncherStream, MarkSplitter>
  readonly #signalMessages = new SignalMessageFilter()
  readonly #onWaitMark: () => void
  #end!: (status: number) => void
  #status: number | undefined
  #hasStderrEnded = false
  #isDraining = false

  constructor(
    mark: string,
    sink: LauncherSink,
    pipes: Readonly<Record<LauncherStream, Readable>>,
    held: () => void,
  ) {
    this.#sink = sink
    this.#onWaitMark = held
    this.#pipes = pipes
    this.#splitters = { stdout: new MarkSplitter(mark), stderr: new MarkSplitter(mark) }
    this.ended = new Promise((resolve) => {
      this.#end = resolve
    })
  }

  handleChunk(stream: LauncherStream, chunk: Buffer): void {
    const { data, markText: end, rest } = this.#splitters[stream].feed(chunk)
    const kept = data && stream === 'stderr' ? this.#signalMessages.feed(data) : data
    if (kept) this.#pass(stream, kept)
    if (end === undefined) return
    if (end.trim() === WAIT_MARK) {
      this.#onWaitMark()
      if (rest) this.handleChunk(stream, rest)
      return
    }
    if (stream === 'stdout') this.#status = Number(end)
    else this.#hasStderrEnded = true
    if (this.#status === undefined || !this.#hasStderrEnded) return
    this.#passHeldMessage(this.#status > 128)
    this.#end(this.#status)
  }

  /** The launcher has ended: all that is still in its pipes, whoever has room for it. */
  drainPipes(stdout: Readable, stderr: Readable): Promise<unknown> {
    this.#isDraining = true
    const closed = [stdout, stderr].map((pipe) => {
      pipe.resume()
      return pipe.closed ? undefined : new Promise((resolve) => pipe.once('close', resolve))
    })
    return Promise.all(closed)
  }

  /** The status, had it come after all. */
  finish(): number | undefined {
    for (const stream of ['stdout', 'stderr'] as const) {
      const held = this.#splitters[stream].takeHeld()
      if (held) this.#pass(stream, held)
    }
    this.#passHeldMessage(false)
    return this.#status
  }

  #passHeldMessage(bySignal: boolean): void {
    const held = this.#signalMessages.end(bySignal)
    if (held) this.#pass('stderr', held)
  }

  #pass(stream: LauncherStream, chunk: Buffer): void {
    if (this.#sink(stream, chunk) || this.#isDraining) return
    this.#pipes[stream].pause()
  }
}

function describeLauncherExit(
  end: { code: number | null; signal: NodeJS.Signals | null; why?: string },
  status: number | undefined,
): LaunchResult {
  if (status !== undefined) return { status }
  if (end.signal) return { status: 128 + constants.signals[end.signal] }
  const why = end.why ?? `its shell ended with ${end.code}: no process could be made`
  return { status: -3, message: `the task could not be started: ${why}` }
}

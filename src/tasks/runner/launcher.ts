/**
 * A small shell that stays alive and starts one task after the other. Node's own `spawn` costs this process 2 to 3 ms for each
 * task; a small shell forks in a fifth of that time (design.md has the figures).
 *
 * The launcher leads a process group, and its tasks are in this group: one signal to the group reaches all processes that a task
 * started. The launcher traps all signals that can be trapped. SIGKILL ends it too, and a new launcher takes its place.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { constants } from 'node:os'
import type { Readable } from 'node:stream'
import { deferred } from '../../core/deferred.ts'
import { describeError } from '../../core/errors.ts'
import { resolveWithin } from '../../core/time.ts'
import { openPipeReader, type Pipe } from '../../posix/pipes.ts'
import { alwaysQuoteShellWord } from '../../posix/shell-words.ts'
import { EXIT_NO_RESOURCES, EXIT_NOT_FOUND, exitStatusOfSignal } from '../model/exit-status.ts'
import { CommandOutput, type LauncherSink, WAIT_MARK } from './command-output.ts'
import { MARK_BYTE } from './mark-splitter.ts'

/** A command for a launcher. It was checked: no text in it has a NUL. */
export interface LaunchCommand {
  /** Words of the command: `['/bin/sh', '-c', 'echo hi']`. */
  readonly argv: readonly string[]
  /**
   * Whether it is run in a fork of the launcher, as a first word needs that is built into the shell, such as `echo`. A program in
   * such a fork costs no more than a program that the launcher starts itself.
   */
  readonly isForked: boolean
  /** Added to the runner's environment. All names are valid in a shell. */
  readonly env: Readonly<Record<string, string>>
  readonly cwd?: string | undefined
  /** If a signal ended the command, this is awaited before the rest of its process group gets HUP. Never rejects. */
  readonly waitForGroupExit: () => Promise<void>
}

export interface LaunchResult {
  /** 0 to 255; 128 + n for signal n; EXIT_NO_RESOURCES if it could not be started. */
  readonly status: number
  /** The reason, if the status alone does not say it. */
  readonly message?: string
}

export interface LauncherOptions {
  /** The file to which it writes 0, to enter its control group. */
  readonly cgroupEntry?: string | undefined
  /** For standard output and error. Without them these are sockets, and a task cannot open `/dev/stdout`. */
  readonly pipes?: readonly Pipe[]
}

/** The shell that starts all tasks. */
export const LAUNCHER_SHELL = '/bin/sh'

/** How long a process that left the group may hold the pipes of an ended launcher open. */
const PIPE_CLOSE_TIMEOUT_MS = 500

/** In place of a status: the launcher could not enter the folder. */
const CD_FAILED_MARK = 'folder'

/** A function of the launcher. No program may have this name. */
const END_FUNCTION = '_manyhost_end'

/**
 * The first lines of a launcher. It enters its control group, if there is one. Descriptor 9 is standard error. At the end of each
 * task it calls the function: above status 128 it waits for a line of the runner; the rest of the group gets HUP; then come the
 * marks. A trapped signal interrupts `read`, hence three of them; a line that none of them reads is an empty command.
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

interface LauncherExit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  /** Why it could not be started. */
  readonly reason?: string
}

export class Launcher {
  readonly #child: ChildProcess
  readonly #mark = `${String.fromCharCode(MARK_BYTE)}${randomBytes(16).toString('hex')}`
  /** Resolves when it was reaped. */
  readonly exited: Promise<LauncherExit>
  readonly #stdout: Readable | null
  readonly #stderr: Readable | null
  #currentOutput: CommandOutput | undefined
  #hasExited = false

  /** Never throws: if the shell cannot be started, `run` answers why. */
  constructor(
    env: Readonly<Record<string, string | undefined>> = process.env,
    { cgroupEntry: entry, pipes = [] }: LauncherOptions = {},
  ) {
    const [output, errors] = pipes
    // `detached` gives it a session and a process group of its own.
    this.#child = spawn(LAUNCHER_SHELL, [], {
      detached: true,
      env,
      stdio: ['pipe', output?.writeEnd ?? 'pipe', errors?.writeEnd ?? 'pipe'],
    })
    const { stdin } = this.#child
    this.#stdout = output ? openPipeReader(output) : this.#child.stdout
    this.#stderr = errors ? openPipeReader(errors) : this.#child.stderr
    const exited = deferred<LauncherExit>()
    this.exited = exited.promise
    const handleExit = (exit: LauncherExit): void => {
      this.#hasExited = true
      exited.resolve(exit)
    }
    this.#child.once('exit', (code, signal) => handleExit({ code, signal }))
    this.#child.on('error', (error) =>
      handleExit({ code: null, signal: null, reason: describeError(error) }),
    )
    stdin?.on('error', () => {})
    for (const [name, stream] of [
      ['stdout', this.#stdout],
      ['stderr', this.#stderr],
    ] as const) {
      stream?.on('error', () => {})
      // Output between tasks comes from a process that left the group, and is dropped.
      stream?.on('data', (chunk: Buffer) => this.#currentOutput?.handleChunk(name, chunk))
    }
    stdin?.write(launcherPrologue(this.#mark, entry))
  }

  /** Also the number of the process group of all its tasks; undefined if it could not be started. */
  get pid(): number | undefined {
    return this.#child.pid
  }

  get isAlive(): boolean {
    return this.#child.pid !== undefined && !this.#hasExited
  }

  get isBusy(): boolean {
    return this.#currentOutput !== undefined
  }

  /** Runs one task; the task before must have ended. Never rejects. */
  async run(command: LaunchCommand, sink: LauncherSink): Promise<LaunchResult> {
    const { stdin } = this.#child
    const [stdout, stderr] = [this.#stdout, this.#stderr]
    if (!this.isAlive || !stdin || !stdout || !stderr) {
      const { reason = '' } = await this.exited
      const message = `${LAUNCHER_SHELL}, which starts tasks, cannot be started: ${reason}`
      return { status: EXIT_NO_RESOURCES, message }
    }
    const output = new CommandOutput(this.#mark, sink, { stdout, stderr }, async () => {
      await command.waitForGroupExit()
      stdin.write('\n')
    })
    this.#currentOutput = output
    stdin.write(this.#formatCommandLine(command))
    const ended = await Promise.race([output.ended, this.exited])
    if (typeof ended === 'number') {
      this.#currentOutput = undefined
      if (Number.isNaN(ended)) {
        // The launcher's own message would have the number of one of its lines, so it is written here.
        const message = `cannot enter folder '${command.cwd}'`
        sink('stderr', Buffer.from(`${message}\n`))
        return { status: EXIT_NOT_FOUND, message }
      }
      return { status: ended }
    }
    await resolveWithin(PIPE_CLOSE_TIMEOUT_MS, output.drainPipes(stdout, stderr))
    this.#currentOutput = undefined
    return describeLauncherExit(ended, output.finish())
  }

  /** Lets the output of the present task flow again. */
  resume(): void {
    this.#stdout?.resume()
    this.#stderr?.resume()
  }

  /** Sends a signal to the group: to all processes of the task, but for those that left the group. */
  signal(name: NodeJS.Signals): void {
    if (!this.isAlive || this.#child.pid === undefined) return
    try {
      process.kill(-this.#child.pid, name)
    } catch {
      // It has just ended.
    }
  }

  /** Kills the launcher with all that is left in its group. Resolves when it was reaped. */
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
    // The launcher itself enters the folder, for each task: the task before may have had another, or have replaced the folder.
    return `if cd -P -- ${alwaysQuoteShellWord(cwd)}; then ${command}; ${END_FUNCTION} $?; else ${END_FUNCTION} ${CD_FAILED_MARK}; fi\n`
  }
}

function describeLauncherExit(
  { code, signal, reason }: LauncherExit,
  status: number | undefined,
): LaunchResult {
  if (status !== undefined) return { status }
  if (signal) return { status: exitStatusOfSignal(constants.signals[signal]) }
  const cause = reason ?? `its shell ended with ${code}, for it could make no process`
  return { status: EXIT_NO_RESOURCES, message: `the task could not be started: ${cause}` }
}

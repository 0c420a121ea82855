/** One attempt of one task, from its template to its outcome. */
import { existsSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { describeError } from '../../core/errors.ts'
import { after, sleep, type Timer, wallClock } from '../../core/time.ts'
import { GroupUsage } from '../../posix/group-usage.ts'
import type { TemplateCache } from '../model/accept-task.ts'
import {
  EXIT_CANCELLED,
  EXIT_NO_RESOURCES,
  EXIT_TIMED_OUT,
  exitStatusOfSignal,
} from '../model/exit-status.ts'
import { shorterTimeout } from '../model/timeouts.ts'
import { type CommandTemplate, TEMPLATE_FAILED, TemplateError } from '../text/template.ts'
import type { LauncherSink, LauncherStream } from './command-output.ts'
import { taskEnvironment } from './environment.ts'
import { LAUNCHER_SHELL, type LaunchCommand, type LaunchResult } from './launcher.ts'
import type { OutputStream, RunOutcome, RunTask } from './protocol.ts'
import type { RunnerSlot } from './runner-slot.ts'
import { exceedsWordLimit, mayDetach } from './shell-words.ts'
import { isAvailableCommand, parseSimpleCommand } from './simple-command.ts'

/** What is common to the attempts of one bundle. */
export interface AttemptConditions {
  /** For a task that has no template of its own. */
  readonly template: CommandTemplate
  readonly templates: TemplateCache
  readonly shell: string
  readonly cwd: string
  /** Whether the folder was asked for; if not, it is the runner's own. */
  readonly isCwdExplicit: boolean
  readonly env: Readonly<Record<string, string>>
  /** 0: unlimited. */
  readonly timeoutMs: number
  readonly signalWaitMs: number
  readonly monitor: boolean
  readonly clientId: string
  readonly clientHost: string
  /** A folder for commands that are too long for an argument. */
  readonly scriptFolder: string
  /** Where the launcher finds programs. */
  readonly searchPath: string | undefined
}

/** Takes output of the task. Answers false when it wants no more for now. */
export type AttemptOutput = (stream: OutputStream, chunk: Buffer) => boolean

/** Why an attempt is ended from outside. */
type InterruptReason = 'timeout' | 'cancelled' | 'stopped'

/** Longest output of a command in a template, `{% %}`. */
const MAX_TEMPLATE_OUTPUT_BYTES = 1_048_576

/** Characters of the standard error of a `{% %}` that are shown. */
const MAX_SHOWN_ERRORS = 200

/** How often it is checked whether an interrupted task has left processes, in ms. */
const POLL_INTERVAL_MS = 50

const SIGNAL_LADDER = ['SIGINT', 'SIGTERM', 'SIGKILL'] as const

export class TaskAttempt {
  readonly task: RunTask
  /** Milliseconds that it may take: the shorter of the task's own timeout and the runner's; `null`: unlimited. */
  readonly timeoutMs: number | null
  readonly usage: GroupUsage | undefined
  readonly #conditions: AttemptConditions
  readonly #output: AttemptOutput
  #slot: RunnerSlot | undefined
  #reason: InterruptReason | undefined
  #timer: Timer | undefined
  #isRunning = false

  constructor(task: RunTask, conditions: AttemptConditions, output: AttemptOutput, now: number) {
    this.task = task
    this.timeoutMs = shorterTimeout(task.timeout ?? 0, conditions.timeoutMs) || null
    this.#conditions = conditions
    this.#output = output
    this.usage = conditions.monitor ? new GroupUsage(now) : undefined
  }

  /** Never rejects. */
  async run(slot: RunnerSlot): Promise<RunOutcome> {
    this.#slot = slot
    const startTime = wallClock()
    let command: string | null = null
    let file: string | undefined
    try {
      if (this.timeoutMs !== null)
        this.#timer = after(this.timeoutMs, () => this.interrupt('timeout'))
      const expanded = this.#expandCommand(slot)
      command = typeof expanded === 'string' ? expanded : await expanded
      if (command.includes('\0')) throw new TemplateError('a command cannot hold a NUL')
      if (this.#reason) {
        const status = exitStatusOfSignal(constants.signals.SIGINT)
        return this.#outcome(startTime, command, { status })
      }
      if (mayDetach(command)) slot.markForReplacement()
      if (exceedsWordLimit(command)) file = this.#writeScript(command)
      const env = this.#environment(command, slot.number)
      const ended = await this.#launch(this.#launchWords(command, file), env, this.#output)
      return this.#outcome(startTime, command, ended)
    } catch (error) {
      // Not the task's fault: the disk is full, for example.
      const status = error instanceof TemplateError ? TEMPLATE_FAILED : EXIT_NO_RESOURCES
      return this.#outcome(startTime, command, { status, message: describeError(error) })
    } finally {
      this.#timer?.clear()
      this.#slot = undefined
    }
  }

  /** Sends INT to all processes of the task, then TERM, then KILL, with `signalWait` between them. */
  interrupt(reason: InterruptReason): void {
    if (this.#reason) return
    this.#reason = reason
    this.#timer?.clear()
    // Whatever the task does about the signals, none of its processes stays.
    this.#slot?.markForReplacement()
    this.#sendSignals(0)
  }

  writeUsageSample(csv: string): void {
    this.#output('csv', Buffer.from(csv))
  }

  /** The command as it was expanded when the task was accepted. A template that needs the runner is expanded here. */
  #expandCommand({ number }: RunnerSlot): string | Promise<string> {
    const { template, templates } = this.#conditions
    const { args, tag = {}, template: ownText, command } = this.task
    const own = ownText ? templates.get(ownText) : template
    if (typeof command === 'string' && !(ownText && own.needsRunner)) return command
    return own.expand({ args, tag, slot: number, shell: (line) => this.#evaluate(line) })
  }

  /** Variables of the bundle, and of the task, which come first. */
  get #env(): Readonly<Record<string, string>> {
    const { env } = this.#conditions
    return this.task.env ? { ...env, ...this.task.env } : env
  }

  /**
   * The folder that the task runs in:
   *
   * 1. The task has none: that of the bundle.
   * 2. The task was handed in on the machine of its server, the runner is on another one (by ssh, for example) and has no such
   *    folder: that of the bundle, unless a folder was asked for.
   * 3. Else: the task's own.
   */
  get #folder(): string {
    const { cwd, isCwdExplicit, clientHost } = this.#conditions
    const { cwd: own, submitHost, serverHost } = this.task
    // 1.
    if (typeof own !== 'string') return cwd
    // 2.
    const isRemote = submitHost === serverHost && clientHost !== serverHost
    if (isRemote && !isCwdExplicit && !existsSync(own)) return cwd
    // 3.
    return own
  }

  #sendSignals(step: number): void {
    const signal = SIGNAL_LADDER[step]
    if (!signal) return
    if (this.#isRunning) this.#slot?.signal(signal)
    this.#timer = after(this.#conditions.signalWaitMs, () => this.#sendSignals(step + 1))
  }

  /**
   * The words that run a command: a shell with the command, or with a file that has it. A command that needs no shell is run by
   * the launcher itself.
   */
  #launchWords(command: string, file?: string): Pick<LaunchCommand, 'argv' | 'isForked'> {
    const shell = this.task.shell ?? this.#conditions.shell
    // The launcher finds programs by its own PATH, so the task must not have another one.
    const isOurs = shell === LAUNCHER_SHELL && !('PATH' in this.#env)
    const words = isOurs && file === undefined ? parseSimpleCommand(command) : undefined
    // For a program that does not exist, the launcher's message would have the number of a line of the launcher.
    const isFound =
      words && isAvailableCommand(words[0] as string, this.#folder, this.#conditions.searchPath)
    if (isFound) return { argv: words, isForked: true }
    return { argv: file ? [shell, file] : [shell, '-c', command], isForked: false }
  }

  async #launch(
    words: Pick<LaunchCommand, 'argv' | 'isForked'>,
    env: Readonly<Record<string, string>>,
    output: LauncherSink,
  ): Promise<LaunchResult> {
    const cwd = this.#folder
    this.#isRunning = true
    try {
      const waitForGroupExit = (): Promise<void> => this.#waitForGroupExit()
      const command = { ...words, env, cwd, waitForGroupExit }
      return (await this.#slot?.run(command, output)) as LaunchResult
    } finally {
      this.#isRunning = false
    }
  }

  /** A shell ends at once when it gets TERM. The processes that it started have their time until KILL all the same. */
  async #waitForGroupExit(): Promise<void> {
    while (this.#reason && this.#isRunning && this.#slot?.hasGroupMembers)
      await sleep(POLL_INTERVAL_MS)
  }

  /** The output of a command in the template, `{% %}`. */
  async #evaluate(command: string): Promise<string> {
    if (command.includes('\0') || exceedsWordLimit(command))
      throw new Error('the command in {% %} has a NUL or is longer than an argument may be')
    const chunks: Record<LauncherStream, Buffer[]> = { stdout: [], stderr: [] }
    let size = 0
    const collect: LauncherSink = (stream, chunk) => {
      size += chunk.length
      if (size <= MAX_TEMPLATE_OUTPUT_BYTES) chunks[stream].push(chunk)
      else this.#slot?.signal('SIGKILL')
      return true
    }
    const { status, message } = await this.#launch(this.#launchWords(command), this.#env, collect)
    if (size > MAX_TEMPLATE_OUTPUT_BYTES)
      throw new Error(`the command in {% %} wrote more than ${MAX_TEMPLATE_OUTPUT_BYTES} bytes`)
    if (status === 0) return Buffer.concat(chunks.stdout).toString('utf8')
    const errors = Buffer.concat(chunks.stderr).toString('utf8').trim().slice(-MAX_SHOWN_ERRORS)
    throw new Error(message ?? `exit status ${status}${errors ? `: ${errors}` : ''}`)
  }

  #environment(command: string, slot: number): Record<string, string> {
    const { clientId, clientHost } = this.#conditions
    const extra = {
      TASK_COMMAND: command,
      TASK_SLOT: slot,
      TASK_CWD: this.#folder,
      TASK_CLIENT_ID: clientId,
      TASK_CLIENT_HOST: clientHost,
    }
    return { ...this.#env, ...taskEnvironment(this.task, extra) }
  }

  #writeScript(command: string): string {
    const file = `${this.#conditions.scriptFolder}/${this.#slot?.number ?? 0}.sh`
    writeFileSync(file, command, { mode: 0o600 })
    return file
  }

  #outcome(
    startTime: number,
    command: string | null,
    { status, message }: LaunchResult,
  ): RunOutcome {
    const { task, usage } = this
    const { clientId, clientHost } = this.#conditions
    const reason = this.#describeInterrupt() ?? message ?? this.#describeExcess()
    return {
      id: task.id,
      fence: task.fence,
      exitStatus: this.#exitStatus(status),
      command,
      clientId,
      clientHost,
      startTime,
      completionTime: wallClock(),
      coresMax: usage?.coresMax ?? null,
      memoryMax: usage?.memoryMax ?? null,
      ...(reason !== undefined && { message: reason }),
      ...(this.#reason && { interrupted: this.#reason }),
    }
  }

  /** A warning if it used more than it had asked for. */
  #describeExcess(): string | undefined {
    const { coresMax = null, memoryMax = null } = this.usage ?? {}
    const { cores, memory } = this.task
    if (memory && memoryMax !== null && memoryMax > memory) {
      return `it used ${memoryMax} bytes of memory, but asked for ${memory}`
    }
    // A sample of one second is not more precise than a tenth.
    if (cores && coresMax !== null && coresMax > cores * 1.1) {
      return `it used ${coresMax} cores, but asked for ${cores}`
    }
    return undefined
  }

  #exitStatus(status: number): number {
    if (this.#reason === 'cancelled') return EXIT_CANCELLED
    return this.#reason === 'timeout' && status === 0 ? EXIT_TIMED_OUT : status
  }

  #describeInterrupt(): string | undefined {
    if (this.#reason === 'timeout') return `timeout after ${this.timeoutMs} ms`
    if (this.#reason === 'stopped') return 'the runner was stopped while the task ran'
    return this.#reason && 'cancelled while it ran'
  }
}

/** One attempt of one task, from its template to its outcome. */
import { existsSync, writeFileSync } from 'node:fs'
import { describeError } from '../../core/errors.ts'
import { after, sleep, type Timer, wallClock } from '../../core/time.ts'
import { GroupUsage } from '../../posix/group-usage.ts'
import type { TemplateCache } from '../model/accept-task.ts'
import { type CommandTemplate, TEMPLATE_FAILED, TemplateError } from '../text/template.ts'
import { taskEnvironment } from './environment.ts'
import {
  LAUNCHER_SHELL,
  type LaunchCommand,
  type LauncherSink,
  type LauncherStream,
  type LaunchResult,
} from './launcher.ts'
import type { OutputStream, RunOutcome, RunTask } from './protocol.ts'
import type { RunnerSlot } from './runner-slot.ts'
import { exceedsWordLimit, mayDetach } from './shell-words.ts'
import { isAvailableCommand, parseSimpleCommand } from './simple-command.ts'

/** What holds for the attempts of one bundle. */
export interface AttemptConditions {
  /** Of a task that has none of its own. */
  readonly template: CommandTemplate
  readonly templates: TemplateCache
  readonly shell: string
  readonly cwd: string
  /** Whether that was asked for; else it is the runner's own. */
  readonly isCwdExplicit: boolean
  readonly env: Readonly<Record<string, string>>
  /** 0: unlimited. */
  readonly timeoutMs: number
  readonly signalWaitMs: number
  readonly monitor: boolean
  readonly clientId: string
  readonly clientHost: string
  /** For what is too long to be an argument. */
  readonly scriptFolder: string
  /** Where the launcher finds programs. */
  readonly searchPath: string | undefined
}

/** Takes what the task writes; false: no more for now. */
export type AttemptOutput = (stream: OutputStream, chunk: Buffer) => boolean

/** The ways by which an attempt is ended from outside. */
type InterruptReason = 'timeout' | 'cancelled' | 'stopped'

/** Longest output of a `{% %}`. */
const MAX_TEMPLATE_OUTPUT_BYTES = 1_048_576

/** How often it is looked whether an interrupted task has left anybody, in ms. */
const POLL_INTERVAL_MS = 50

const SIGNAL_LADDER = ['SIGINT', 'SIGTERM', 'SIGKILL'] as const

export const EXIT_CANCELLED = -1
export const EXIT_NO_RESOURCES = -3

/** As timeout(1) has it, for a task that ends well though its time was over. */
const EXIT_TIMED_OUT = 124

export class TaskAttempt {
  readonly task: RunTask
  /** Milliseconds that it may take: the shorter of the task's own and the runner's; `null` where neither says. */
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
    const limits = [task.timeout ?? 0, conditions.timeoutMs].filter((one) => one > 0)
    this.timeoutMs = limits.length > 0 ? Math.min(...limits) : null
    this.#conditions = conditions
    this.#output = output
    this.usage = conditions.monitor ? new GroupUsage(now) : undefined
  }

  /** Never rejects. */
  async run(place: RunnerSlot): Promise<RunOutcome> {
    this.#slot = place
    const startTime = wallClock()
    let command: string | null = null
    let file: string | undefined
    try {
      if (this.timeoutMs !== null)
        this.#timer = after(this.timeoutMs, () => this.interrupt('timeout'))
      const made = this.#expandCommand(place)
      command = typeof made === 'string' ? made : await made
      if (command.includes('\0')) throw new TemplateError('a command cannot hold a NUL')
      if (this.#reason) return this.#outcome(startTime, command, { status: 128 + 2 })
      if (mayDetach(command)) place.markForReplacement()
      if (exceedsWordLimit(command)) file = this.#writeScript(command)
      const env = this.#environment(command, place.number)
      const ended = await this.#launch(this.#launchWords(command, file), env, this.#output)
      return this.#outcome(startTime, command, ended)
    } catch (error) {
      // A folder that is full, for one.
      const status = error instanceof TemplateError ? TEMPLATE_FAILED : EXIT_NO_RESOURCES
      return this.#outcome(startTime, command, { status, message: describeError(error) })
    } finally {
      this.#timer?.clear()
      this.#slot = undefined
    }
  }

  /** INT to all that the task started, then TERM, then KILL, `signalWait` apart. */
  interrupt(reason: InterruptReason): void {
    if (this.#reason) return
    this.#reason = reason
    this.#timer?.clear()
    // Whatever it does about the signals: nothing of it stays.
    this.#slot?.markForReplacement()
    this.#sendSignals(0)
  }

  writeUsageSample(csv: string): void {
    this.#output('csv', Buffer.from(csv))
  }

  /** What was made of it when it was accepted, but where only this place can say it. */
  #expandCommand({ number: slot }: RunnerSlot): string | Promise<string> {
    const { template, templates } = this.#conditions
    const { args, tag = {}, template: text, command } = this.task
    const own = text ? templates.get(text) : template
    if (typeof command === 'string' && !(text && own.needsRunner)) return command
    return own.expand({ args, tag, slot, shell: (asked) => this.#evaluate(asked) })
  }

  /** Of the runner, and of the task over it. */
  get #env(): Readonly<Record<string, string>> {
    const { env } = this.#conditions
    return this.task.env ? { ...env, ...this.task.env } : env
  }

  /**
   * The task's own. A runner on another machine than the one that the task and its server are on (by ssh, say) may have no
   * such folder, and has one of its own.
   */
  get #folder(): string {
    const { cwd, isCwdExplicit: isFolderAsked, clientHost } = this.#conditions
    const { cwd: own, submitHost, serverHost } = this.task
    if (typeof own !== 'string') return cwd
    const isFar = submitHost === serverHost && clientHost !== serverHost
    return isFar && !isFolderAsked && !existsSync(own) ? cwd : own
  }

  #sendSignals(step: number): void {
    const signal = SIGNAL_LADDER[step]
    if (!signal) return
    if (this.#isRunning) this.#slot?.signal(signal)
    this.#timer = after(this.#conditions.signalWaitMs, () => this.#sendSignals(step + 1))
  }

  /** What runs a command: a shell, which may find it in a file, or, where it needs none, the launcher. */
  #launchWords(command: string, file?: string): Pick<LaunchCommand, 'argv' | 'isForked'> {
    const shell = this.task.shell ?? this.#conditions.shell
    // Where programs are found is the launcher's PATH, which must be the task's own.
    const isOurs = shell === LAUNCHER_SHELL && !('PATH' in this.#env)
    const words = isOurs && file === undefined ? parseSimpleCommand(command) : undefined
    // One that is not there: the launcher would say so with the number of one of its own lines.
    const isFound =
      words && isAvailableCommand(words[0] as string, this.#folder, this.#conditions.searchPath)
    if (isFound) return { argv: words, isForked: true }
    return { argv: file ? [shell, file] : [shell, '-c', command], isForked: false }
  }

  async #launch(
    how: Pick<LaunchCommand, 'argv' | 'isForked'>,
    env: Readonly<Record<string, string>>,
    output: LauncherSink,
  ): Promise<LaunchResult> {
    const cwd = this.#folder
    this.#isRunning = true
    try {
      const lingering = (): Promise<void> => this.#waitForGroupExit()
      return (await this.#slot?.run(
        { ...how, env, cwd, waitForGroupExit: lingering },
        output,
      )) as LaunchResult
    } finally {
      this.#isRunning = false
    }
  }

  /** A shell dies of TERM at once: what it had started has the time of the ladder all the same. */
  async #waitForGroupExit(): Promise<void> {
    while (this.#reason && this.#isRunning && this.#slot?.hasGroupMembers)
      await sleep(POLL_INTERVAL_MS)
  }

  /** The output of a command in the template. */
  async #evaluate(command: string): Promise<string> {
    if (command.includes('\0') || exceedsWordLimit(command))
      throw new Error('the command is too long')
    const chunks: Record<LauncherStream, Buffer[]> = { stdout: [], stderr: [] }
    let size = 0
    const take: LauncherSink = (stream, chunk) => {
      size += chunk.length
      if (size <= MAX_TEMPLATE_OUTPUT_BYTES) chunks[stream].push(chunk)
      else this.#slot?.signal('SIGKILL')
      return true
    }
    const { status, message } = await this.#launch(this.#launchWords(command), this.#env, take)
    if (size > MAX_TEMPLATE_OUTPUT_BYTES)
      throw new Error(`it wrote more than ${MAX_TEMPLATE_OUTPUT_BYTES} bytes`)
    if (status === 0) return Buffer.concat(chunks.stdout).toString('utf8')
    const said = Buffer.concat(chunks.stderr).toString('utf8').trim().slice(-200)
    throw new Error(message ?? `exit status ${status}${said ? `: ${said}` : ''}`)
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
    const why = this.#describeInterrupt() ?? message ?? this.#describeExcess()
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
      ...(why !== undefined && { message: why }),
      ...(this.#reason && { interrupted: this.#reason }),
    }
  }

  /** What it used beyond what it had asked for: a word of warning. */
  #describeExcess(): string | undefined {
    const { coresMax = null, memoryMax = null } = this.usage ?? {}
    const { cores, memory } = this.task
    if (memory && memoryMax !== null && memoryMax > memory) {
      return `it used ${memoryMax} bytes of memory, ${memory} were asked for`
    }
    // A sample of a second is no finer than this.
    if (cores && coresMax !== null && coresMax > cores * 1.1) {
      return `it used ${coresMax} cores, ${cores} were asked for`
    }
    return undefined
  }

  #exitStatus(status: number): number {
    if (this.#reason === 'cancelled') return EXIT_CANCELLED
    return this.#reason === 'timeout' && status === 0 ? EXIT_TIMED_OUT : status
  }

  #describeInterrupt(): string | undefined {
    if (this.#reason === 'timeout') return `timeout after ${this.timeoutMs} ms`
    if (this.#reason === 'stopped') return 'the runner was told to stop'
    return this.#reason && 'cancelled while it ran'
  }
}

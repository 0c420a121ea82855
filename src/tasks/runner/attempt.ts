/** One attempt of one task, from its template to its outcome. */
import { existsSync, writeFileSync } from 'node:fs'
import { describe } from '../../core/errors.ts'
import { after, sleep, type Timer, wallClock } from '../../core/time.ts'
import type { Templates } from '../accept.ts'
import { TEMPLATE_FAILED, type Template, TemplateError } from '../template.ts'
import { taskEnvironment } from './environment.ts'
import { Usage } from './groups.ts'
import { type Ended, type Job, LAUNCHER, type Sink, type Stream } from './launcher.ts'
import type { Place } from './place.ts'
import type { OutputStream, RunOutcome, RunTask } from './protocol.ts'
import { detaches, isLong } from './quote.ts'
import { isCommand, simpleWords } from './simple.ts'

/** What holds for the attempts of one bundle. */
export interface Conditions {
  /** Of a task that has none of its own. */
  readonly template: Template
  readonly templates: Templates
  readonly shell: string
  readonly cwd: string
  /** Whether that was asked for; else it is the runner's own. */
  readonly isFolderAsked: boolean
  readonly env: Readonly<Record<string, string>>
  /** 0: unlimited. */
  readonly timeout: number
  readonly signalWait: number
  readonly monitor: boolean
  readonly clientId: string
  readonly clientHost: string
  /** For what is too long to be an argument. */
  readonly folder: string
  /** Where the launcher finds programs. */
  readonly path: string | undefined
}

/** Takes what the task writes; false: no more for now. */
export type Output = (stream: OutputStream, chunk: Buffer) => boolean

/** The ways by which an attempt is ended from outside. */
type Reason = 'timeout' | 'cancelled' | 'stopped'

/** Longest output of a `{% %}`. */
const LONGEST_OUTPUT = 1_048_576

/** How often it is looked whether an interrupted task has left anybody, in ms. */
const LOOK = 50

const LADDER = ['SIGINT', 'SIGTERM', 'SIGKILL'] as const

export const CANCELLED = -1
export const NO_RESOURCES = -3

/** As timeout(1) has it, for a task that ends well though its time was over. */
const TIMED_OUT = 124

export class Attempt {
  readonly task: RunTask
  /** Milliseconds that it may take: the shorter of the task's own and the runner's; `null` where neither says. */
  readonly limit: number | null
  readonly usage: Usage | undefined
  readonly #conditions: Conditions
  readonly #output: Output
  #place: Place | undefined
  #reason: Reason | undefined
  #timer: Timer | undefined
  #isRunning = false

  constructor(task: RunTask, conditions: Conditions, output: Output, now: number) {
    this.task = task
    const limits = [task.timeout ?? 0, conditions.timeout].filter((one) => one > 0)
    this.limit = limits.length > 0 ? Math.min(...limits) : null
    this.#conditions = conditions
    this.#output = output
    this.usage = conditions.monitor ? new Usage(now) : undefined
  }

  /** Never rejects. */
  async run(place: Place): Promise<RunOutcome> {
    this.#place = place
    const startTime = wallClock()
    let command: string | null = null
    let file: string | undefined
    try {
      if (this.limit !== null) this.#timer = after(this.limit, () => this.interrupt('timeout'))
      const made = this.#command(place)
      command = typeof made === 'string' ? made : await made
      if (command.includes('\0')) throw new TemplateError('a command cannot hold a NUL')
      if (this.#reason) return this.#outcome(startTime, command, { status: 128 + 2 })
      if (detaches(command)) place.wear()
      if (isLong(command)) file = this.#keep(command)
      const env = this.#environment(command, place.slot)
      const ended = await this.#start(this.#how(command, file), env, this.#output)
      return this.#outcome(startTime, command, ended)
    } catch (error) {
      // A folder that is full, for one.
      const status = error instanceof TemplateError ? TEMPLATE_FAILED : NO_RESOURCES
      return this.#outcome(startTime, command, { status, message: describe(error) })
    } finally {
      this.#timer?.clear()
      this.#place = undefined
    }
  }

  /** INT to all that the task started, then TERM, then KILL, `signalWait` apart. */
  interrupt(reason: Reason): void {
    if (this.#reason) return
    this.#reason = reason
    this.#timer?.clear()
    // Whatever it does about the signals: nothing of it stays.
    this.#place?.wear()
    this.#climb(0)
  }

  sample(csv: string): void {
    this.#output('csv', Buffer.from(csv))
  }

  /** What was made of it when it was accepted, but where only this place can say it. */
  #command({ slot }: Place): string | Promise<string> {
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
    const { cwd, isFolderAsked, clientHost } = this.#conditions
    const { cwd: own, submitHost, serverHost } = this.task
    if (typeof own !== 'string') return cwd
    const isFar = submitHost === serverHost && clientHost !== serverHost
    return isFar && !isFolderAsked && !existsSync(own) ? cwd : own
  }

  #climb(step: number): void {
    const signal = LADDER[step]
    if (!signal) return
    if (this.#isRunning) this.#place?.signal(signal)
    this.#timer = after(this.#conditions.signalWait, () => this.#climb(step + 1))
  }

  /** What runs a command: a shell, which may find it in a file, or, where it needs none, the launcher. */
  #how(command: string, file?: string): Pick<Job, 'argv' | 'isForked'> {
    const shell = this.task.shell ?? this.#conditions.shell
    // Where programs are found is the launcher's PATH, which must be the task's own.
    const isOurs = shell === LAUNCHER && !('PATH' in this.#env)
    const words = isOurs && file === undefined ? simpleWords(command) : undefined
    // One that is not there: the launcher would say so with the number of one of its own lines.
    const isFound = words && isCommand(words[0] as string, this.#folder, this.#conditions.path)
    if (isFound) return { argv: words, isForked: true }
    return { argv: file ? [shell, file] : [shell, '-c', command], isForked: false }
  }

  async #start(
    how: Pick<Job, 'argv' | 'isForked'>,
    env: Readonly<Record<string, string>>,
    output: Sink,
  ): Promise<Ended> {
    const cwd = this.#folder
    this.#isRunning = true
    try {
      const lingering = (): Promise<void> => this.#linger()
      return (await this.#place?.run({ ...how, env, cwd, lingering }, output)) as Ended
    } finally {
      this.#isRunning = false
    }
  }

  /** A shell dies of TERM at once: what it had started has the time of the ladder all the same. */
  async #linger(): Promise<void> {
    while (this.#reason && this.#isRunning && this.#place?.isInhabited) await sleep(LOOK)
  }

  /** The output of a command in the template. */
  async #evaluate(command: string): Promise<string> {
    if (command.includes('\0') || isLong(command)) throw new Error('the command is too long')
    const chunks: Record<Stream, Buffer[]> = { stdout: [], stderr: [] }
    let size = 0
    const take: Sink = (stream, chunk) => {
      size += chunk.length
      if (size <= LONGEST_OUTPUT) chunks[stream].push(chunk)
      else this.#place?.signal('SIGKILL')
      return true
    }
    const { status, message } = await this.#start(this.#how(command), this.#env, take)
    if (size > LONGEST_OUTPUT) throw new Error(`it wrote more than ${LONGEST_OUTPUT} bytes`)
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

  #keep(command: string): string {
    const file = `${this.#conditions.folder}/${this.#place?.slot ?? 0}.sh`
    writeFileSync(file, command, { mode: 0o600 })
    return file
  }

  #outcome(startTime: number, command: string | null, { status, message }: Ended): RunOutcome {
    const { task, usage } = this
    const { clientId, clientHost } = this.#conditions
    const why = this.#why() ?? message ?? this.#excess()
    return {
      id: task.id,
      fence: task.fence,
      exitStatus: this.#status(status),
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
  #excess(): string | undefined {
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

  #status(status: number): number {
    if (this.#reason === 'cancelled') return CANCELLED
    return this.#reason === 'timeout' && status === 0 ? TIMED_OUT : status
  }

  #why(): string | undefined {
    if (this.#reason === 'timeout') return `timeout after ${this.limit} ms`
    if (this.#reason === 'stopped') return 'the runner was told to stop'
    return this.#reason && 'cancelled while it ran'
  }
}

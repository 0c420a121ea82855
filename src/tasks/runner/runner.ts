/** Runs tasks of many bundles on the places of this machine. Knows no HTTP. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, rmSync } from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { ManyhostError } from '../../core/errors.ts'
import { after, every, now, type Timer, wallClock } from '../../core/time.ts'
import { Containment } from '../../posix/containment.ts'
import { findGroupMembers } from '../../posix/group-members.ts'
import { GroupUsage } from '../../posix/group-usage.ts'
import { readUptime } from '../../posix/proc.ts'
import { TemplateCache } from '../model/accept-task.ts'
import { baseEnvironment } from './environment.ts'
import { parseRunnerOptions, type RunnerOptions, type RunnerSettings } from './options.ts'
import type { BundleOptions, OutputStream, RunnerHello, RunOutcome, RunTask } from './protocol.ts'
import { RunnerSlot } from './runner-slot.ts'
import { StartRateLimit } from './start-rate.ts'
import {
  type AttemptConditions,
  type AttemptOutput,
  EXIT_CANCELLED,
  EXIT_NO_RESOURCES,
  TaskAttempt,
} from './task-attempt.ts'
import { TaskSchedule } from './task-schedule.ts'

/** Who handed a bundle in, and is told what becomes of it. */
export interface BundleListener {
  /** Answers false when it wants no more of this task until `Bundle.resume`. */
  onOutput(index: number, stream: OutputStream, chunk: Buffer): boolean
  onOutcome(outcome: RunOutcome): void
  /** Was never started, and will not be here. */
  onReturned(task: RunTask): void
  /** All tasks of an ended bundle have their say. */
  onDone(): void
}

interface BundleEntry {
  readonly attempt: TaskAttempt
  readonly bundle: Bundle
  slot: RunnerSlot | undefined
  startedAt: number
}

/** How often places are looked at for what tasks left behind, and usage is sampled, in ms. */
const CHECK_INTERVAL_MS = 1_000

export class Runner {
  readonly id: string
  readonly host = hostname()
  readonly settings: RunnerSettings
  /** Resolves when it was told to drain or stop, and nothing is left. */
  readonly drained: Promise<void>
  readonly #schedule: TaskSchedule<BundleEntry>
  readonly #startRate: StartRateLimit
  readonly #freeSlots: RunnerSlot[] = []
  readonly #slots: RunnerSlot[] = []
  readonly #running = new Set<BundleEntry>()
  readonly #bundles = new Set<Bundle>()
  readonly #templates = new TemplateCache()
  readonly #tempFolder: string
  readonly #containment: Containment
  readonly #checkTimer: Timer
  readonly #searchPath: string | undefined
  #startTimer: Timer | undefined
  #state: 'working' | 'draining' | 'closed' = 'working'
  #idleSince = now()
  #drained!: () => void

  /** @throws ManyhostError MANYHOST_INVALID_OPTION */
  constructor(options: RunnerOptions = {}, env: NodeJS.ProcessEnv = process.env) {
    this.settings = parseRunnerOptions(options)
    const nonce = randomBytes(12).toString('hex')
    this.id = env.MANYHOST_INSTANCE ?? `runner-${nonce.slice(0, 12)}`
    this.#tempFolder = join(tmpdir(), `manyhost-runner-${nonce}`)
    mkdirSync(this.#tempFolder, { mode: 0o700 })
    const mark = `MANYHOST_RUNNER=${nonce}.`
    this.#containment = new Containment({ mark, folder: this.#tempFolder })
    const base = { ...baseEnvironment(env), ...this.settings.env }
    this.#searchPath = base.PATH
    const { numTasks: places, cores, memory, backfillTimeout, rate } = this.settings
    for (let slot = 1; slot <= places; slot++) {
      this.#slots.push(new RunnerSlot(slot, base, this.#containment, mark))
    }
    this.#freeSlots = this.#slots.toReversed()
    this.#schedule = new TaskSchedule({ numTasks: places, cores, memory, backfillTimeout })
    this.#startRate = new StartRateLimit(rate)
    this.#checkTimer = every(CHECK_INTERVAL_MS, () => this.#checkProcesses())
    this.drained = new Promise((resolve) => {
      this.#drained = resolve
    })
  }

  /**
   * Tries by what means tasks are held together, and starts their guard; answers with the means. A task waits for it
   * otherwise.
   * @throws ManyhostError MANYHOST_START_FAILED, MANYHOST_INVALID_OPTION
   */
  async prepare(): Promise<string> {
    await this.#containment.ensure()
    return this.#containment.kind ?? ''
  }

  get hello(): RunnerHello {
    return { clientId: this.id, clientHost: this.host, numTasks: this.settings.numTasks }
  }

  get state(): 'working' | 'draining' | 'closed' {
    return this.#state
  }

  get waiting(): number {
    return this.#schedule.waiting
  }

  get running(): number {
    return this.#running.size
  }

  /** Milliseconds for which there was no bundle; 0 while there is one. */
  get idleMs(): number {
    return this.#bundles.size > 0 ? 0 : now() - this.#idleSince
  }

  /** Tasks that run now, for people. */
  get tasks(): { id: string; slot: number; group: number | null; runningFor: number }[] {
    return [...this.#running].map(({ attempt, slot: place, startedAt }) => ({
      id: attempt.task.id,
      slot: place?.number ?? 0,
      group: place?.processGroup ?? null,
      runningFor: Math.round(now() - startedAt),
    }))
  }

  /** @throws ManyhostError MANYHOST_INVALID_OPTION for a template that cannot be read */
  openBundle(options: BundleOptions, listener: BundleListener): Bundle {
    const settings = this.settings
    const { template, cwd, timeout, signalWait, monitor } = { ...settings, ...options }
    const env = checkEnv(options.env)
    const limits = [settings.timeout, timeout].filter((one) => one > 0)
    const conditions: AttemptConditions = {
      template: this.#templates.get(template),
      templates: this.#templates,
      shell: settings.shell,
      cwd: resolve(cwd ?? '.'),
      isCwdExplicit: cwd !== undefined,
      env,
      timeoutMs: limits.length > 0 ? Math.min(...limits) : 0,
      signalWaitMs: signalWait,
      monitor,
      clientId: this.id,
      clientHost: this.host,
      scriptFolder: this.#tempFolder,
      searchPath: this.#searchPath,
    }
    const bundle = new Bundle(conditions, listener, {
      add: (entry) => this.#add(entry),
      removeWaiting: (entry) => this.#schedule.remove(entry),
      bundleClosed: (one) => this.#removeBundle(one),
    })
    this.#bundles.add(bundle)
    return bundle
  }

  /** Cancels a task, waiting or running; false when it is not here (any more). */
  cancel(id: string, fence?: number): boolean {
    for (const bundle of this.#bundles) if (bundle.cancelTask(id, fence)) return true
    return false
  }

  /** Starts nothing more: what waits is handed back, what runs ends in its time. */
  drain(): void {
    if (this.#state === 'working') this.#state = 'draining'
    for (const entry of this.#schedule.clear()) entry.bundle.returnTask(entry)
    this.#checkDrained()
  }

  /** Drains, and interrupts what runs. */
  stop(): void {
    this.drain()
    for (const { attempt } of this.#running) attempt.interrupt('stopped')
  }

  /** Kills what is left. Resolves when nothing is. */
  async close(): Promise<void> {
    this.drain()
    this.#state = 'closed'
    this.#checkTimer.clear()
    this.#startTimer?.clear()
    await Promise.all(this.#slots.map((place) => place.close()))
    await this.#containment.close()
    rmSync(this.#tempFolder, { recursive: true, force: true })
  }

  #add(entry: BundleEntry): void {
    if (this.#state !== 'working') return entry.bundle.returnTask(entry)
    const { task, timeoutMs: limit } = entry.attempt
    const wanted = { cores: task.cores ?? 1, memory: task.memory ?? 0, timeout: limit }
    const refusal = this.#schedule.explainRefusal(wanted)
    if (refusal)
      return entry.bundle.settle(entry, this.#unstartedOutcome(entry, EXIT_NO_RESOURCES, refusal))
    this.#schedule.enqueue(entry, wanted, now())
    this.#startTasks()
  }

  #startTasks(): void {
    while (this.#freeSlots.length > 0 && this.#schedule.waiting > 0) {
      const at = now()
      const wait = this.#startRate.msUntilNext(at)
      if (wait > 0) return this.#startTasksLater(wait)
      const entry = this.#schedule.startNext(at)
      // One that may soon pass no longer, or be passed: time alone can change that.
      if (!entry)
        return this.#running.size === 0 ? this.#startTasksLater(CHECK_INTERVAL_MS) : undefined
      this.#startRate.recordStart(at)
      void this.#run(entry, this.#freeSlots.pop() as RunnerSlot)
    }
  }

  #startTasksLater(wait: number): void {
    this.#startTimer ??= after(wait, () => {
      this.#startTimer = undefined
      this.#startTasks()
    })
  }

  async #run(entry: BundleEntry, place: RunnerSlot): Promise<void> {
    entry.slot = place
    entry.startedAt = now()
    this.#running.add(entry)
    const outcome = await entry.attempt.run(place)
    this.#running.delete(entry)
    this.#schedule.release(entry)
    entry.slot = undefined
    this.#freeSlots.push(place)
    // The next one first: its start is what others wait for.
    this.#startTasks()
    entry.bundle.settle(entry, outcome)
    this.#checkDrained()
  }

  #unstartedOutcome({ attempt }: BundleEntry, exitStatus: number, message: string): RunOutcome {
    return unstartedRunOutcome(
      attempt.task,
      { clientId: this.id, clientHost: this.host },
      exitStatus,
      message,
    )
  }

  #removeBundle(bundle: Bundle): void {
    this.#bundles.delete(bundle)
    this.#idleSince = now()
    this.#checkDrained()
  }

  #checkDrained(): void {
    if (this.#state !== 'working' && this.#running.size === 0 && this.#bundles.size === 0) {
      this.#drained()
    }
  }

  /** GroupUsage of what runs, and an end to what others left behind. */
  #checkProcesses(): void {
    const soiled = this.#slots.filter(
      (place) => place.hasRunSinceCheck && place.processGroup !== undefined,
    )
    if (soiled.length === 0 || process.platform !== 'linux') return
    const groups = new Set(soiled.map(({ processGroup: group }) => group as number))
    const strays = soiled.flatMap(({ strays, processGroup: group }) =>
      strays.map((pid) => [pid, group] as const),
    )
    const members = findGroupMembers(groups, new Map(strays as [number, number][]))
    const entries = new Map([...this.#running].map((entry) => [entry.slot, entry]))
    const [at, boot] = [now(), readUptime()]
    for (const place of soiled) {
      const entry = entries.get(place)
      const found = members.get(place.processGroup as number) ?? []
      // The kernel's clock of births has steps of 10 ms.
      const since = entry ? boot - (at - entry.startedAt) / 1_000 - 0.05 : Number.POSITIVE_INFINITY
      if (found.some(({ bornAt: born }) => born < since)) void place.replaceLauncher()
      if (!entry) place.hasRunSinceCheck = false
      const { usage } = entry?.attempt ?? {}
      if (usage) entry?.attempt.writeUsageSample(usage.addSample(found, at, wallClock()))
    }
  }
}

/** What a bundle asks of its runner. */
interface BundleOwner {
  add(entry: BundleEntry): void
  removeWaiting(entry: BundleEntry): boolean
  bundleClosed(bundle: Bundle): void
}

/** Tasks that were handed in together, and are answered together. */
export class Bundle {
  readonly #conditions: AttemptConditions
  readonly #listener: BundleListener
  readonly #owner: BundleOwner
  readonly #entries = new Map<string, BundleEntry>()
  #count = 0
  #state: 'open' | 'ended' | 'cancelled' | 'closed' = 'open'

  constructor(conditions: AttemptConditions, listener: BundleListener, desk: BundleOwner) {
    this.#conditions = conditions
    this.#listener = listener
    this.#owner = desk
  }

  /** Tasks that have no outcome yet. */
  get size(): number {
    return this.#entries.size
  }

  add(task: RunTask): void {
    const index = this.#count++
    if (this.#state !== 'open') return
    if (this.#entries.has(task.id)) {
      const { clientId, clientHost } = this.#conditions
      const why = 'the same task stands twice in the bundle'
      return this.#listener.onOutcome(
        unstartedRunOutcome(task, { clientId, clientHost }, EXIT_NO_RESOURCES, why),
      )
    }
    const output: AttemptOutput = (stream, chunk) => this.#listener.onOutput(index, stream, chunk)
    const attempt = new TaskAttempt(task, this.#conditions, output, now())
    if (attempt.usage) attempt.writeUsageSample(GroupUsage.CSV_HEADER)
    const entry: BundleEntry = { attempt, bundle: this, slot: undefined, startedAt: 0 }
    this.#entries.set(task.id, entry)
    this.#owner.add(entry)
  }

  /** Counts a line that was no task, so that indices stay those of the lines. */
  skipLine(): number {
    return this.#count++
  }

  /** No more tasks will come. */
  end(): void {
    if (this.#state === 'open') this.#state = 'ended'
    this.#closeIfDone()
  }

  /** Nobody wants the outcomes any more: nothing more starts, what runs is interrupted. */
  cancel(): void {
    if (this.#state === 'closed') return
    this.#state = 'cancelled'
    for (const entry of [...this.#entries.values()]) {
      if (this.#owner.removeWaiting(entry)) this.#entries.delete(entry.attempt.task.id)
      else entry.attempt.interrupt('cancelled')
    }
    this.#closeIfDone()
  }

  cancelTask(id: string, fence?: number): boolean {
    const entry = this.#entries.get(id)
    if (!entry || (fence !== undefined && entry.attempt.task.fence !== fence)) return false
    if (this.#owner.removeWaiting(entry)) {
      const { clientId, clientHost } = this.#conditions
      const who = { clientId, clientHost }
      this.settle(
        entry,
        unstartedRunOutcome(entry.attempt.task, who, EXIT_CANCELLED, 'cancelled before it ran'),
      )
    } else {
      entry.attempt.interrupt('cancelled')
    }
    return true
  }

  /** There is room for output again. */
  resume(): void {
    for (const { slot: place } of this.#entries.values()) place?.resume()
  }

  settle(entry: BundleEntry, outcome: RunOutcome): void {
    if (!this.#entries.delete(entry.attempt.task.id)) return
    if (this.#state !== 'cancelled') this.#listener.onOutcome(outcome)
    this.#closeIfDone()
  }

  returnTask(entry: BundleEntry): void {
    if (!this.#entries.delete(entry.attempt.task.id)) return
    if (this.#state !== 'cancelled') this.#listener.onReturned(entry.attempt.task)
    this.#closeIfDone()
  }

  #closeIfDone(): void {
    if (this.#state === 'open' || this.#state === 'closed' || this.#entries.size > 0) return
    this.#state = 'closed'
    this.#listener.onDone()
    this.#owner.bundleClosed(this)
  }
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
function checkEnv(env: Readonly<Record<string, string>> = {}): Readonly<Record<string, string>> {
  for (const [name, value] of Object.entries(env)) {
    if (/^[A-Za-z_]\w*$/.test(name) && !value.includes('\0')) continue
    const message = `env: ${JSON.stringify(name.slice(0, 100))} is no name of a variable, or its value holds a NUL`
    throw new ManyhostError('MANYHOST_INVALID_OPTION', message)
  }
  return env
}

function unstartedRunOutcome(
  task: RunTask,
  who: { clientId: string; clientHost: string },
  exitStatus: number,
  message: string,
): RunOutcome {
  const { id, fence } = task
  const completionTime = wallClock()
  return { id, fence, exitStatus, command: null, ...who, startTime: null, completionTime, message }
}

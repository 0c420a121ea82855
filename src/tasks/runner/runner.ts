/** Runs the tasks of many bundles in the slots of this machine. It knows nothing of HTTP. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, rmSync } from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { deferred } from '../../core/deferred.ts'
import { after, every, now, type Timer, wallClock } from '../../core/time.ts'
import { Containment } from '../../posix/containment.ts'
import { findGroupMembers, type GroupMember } from '../../posix/group-members.ts'
import { readUptime } from '../../posix/proc.ts'
import { TemplateCache } from '../model/accept-task.ts'
import { EXIT_NO_RESOURCES } from '../model/exit-status.ts'
import { shorterTimeout } from '../model/timeouts.ts'
import { Bundle, type BundleEntry, type BundleListener, type BundleOwner } from './bundle.ts'
import { baseEnvironment } from './environment.ts'
import { parseRunnerOptions, type RunnerOptions, type RunnerSettings } from './options.ts'
import type { BundleOptions, RunnerHello } from './protocol.ts'
import { RunnerSlot } from './runner-slot.ts'
import { StartRateLimit } from './start-rate.ts'
import { TaskSchedule } from './task-schedule.ts'

/** How often slots are checked for processes that a task left behind, and usage is sampled, in ms. */
const CHECK_INTERVAL_MS = 1_000

/** The kernel measures the birth of a process in steps of 10 ms. In seconds. */
const BIRTH_TOLERANCE_S = 0.05

export class Runner implements BundleOwner {
  readonly id: string
  readonly host = hostname()
  readonly settings: RunnerSettings
  readonly #schedule: TaskSchedule<BundleEntry>
  readonly #startRate: StartRateLimit
  readonly #slots: readonly RunnerSlot[]
  readonly #freeSlots: RunnerSlot[]
  readonly #running = new Set<BundleEntry>()
  readonly #bundles = new Set<Bundle>()
  readonly #templates = new TemplateCache()
  readonly #tempFolder: string
  readonly #containment: Containment
  readonly #checkTimer: Timer
  /** Where launchers find programs. */
  readonly #searchPath: string | undefined
  readonly #drained = deferred<void>()
  #startTimer: Timer | undefined
  #state: 'working' | 'draining' | 'closed' = 'working'
  #idleSince = now()

  /** @throws ManyhostError MANYHOST_INVALID_OPTION */
  constructor(options: RunnerOptions = {}, env: NodeJS.ProcessEnv = process.env) {
    this.settings = parseRunnerOptions(options)
    const nonce = randomBytes(12).toString('hex')
    this.id = env.MANYHOST_INSTANCE ?? `runner-${nonce.slice(0, 12)}`
    this.#tempFolder = join(tmpdir(), `manyhost-runner-${nonce}`)
    mkdirSync(this.#tempFolder, { mode: 0o700 })
    const mark = `MANYHOST_RUNNER=${nonce}.`
    const containment = new Containment({ mark, folder: this.#tempFolder })
    this.#containment = containment
    const taskEnv = { ...baseEnvironment(env), ...this.settings.env }
    this.#searchPath = taskEnv.PATH
    const { numTasks, cores, memory, backfillTimeout, rate } = this.settings
    this.#slots = Array.from(
      { length: numTasks },
      (_, index) => new RunnerSlot(index + 1, taskEnv, containment, mark),
    )
    // Slots are taken from the end: slot 1 is the first.
    this.#freeSlots = this.#slots.toReversed()
    this.#schedule = new TaskSchedule({ numTasks, cores, memory, backfillTimeout })
    this.#startRate = new StartRateLimit(rate)
    this.#checkTimer = every(CHECK_INTERVAL_MS, () => this.#checkProcesses())
  }

  /**
   * Chooses the means by which the processes of tasks are found again, and starts their guard. Without this call the first task
   * waits for it. Resolves with the name of the means.
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

  /** Resolves after `drain` or `stop`, when no task and no bundle is left. */
  get drained(): Promise<void> {
    return this.#drained.promise
  }

  /** Tasks that wait for a slot, cores or memory. */
  get waiting(): number {
    return this.#schedule.waiting
  }

  /** Tasks that run. */
  get running(): number {
    return this.#running.size
  }

  /** Milliseconds for which there has been no bundle; 0 while there is one. */
  get idleMs(): number {
    return this.#bundles.size > 0 ? 0 : now() - this.#idleSince
  }

  /** The tasks that run, for `GET /tasks`. `runningFor` is in milliseconds. */
  get tasks(): { id: string; slot: number; group: number | null; runningFor: number }[] {
    return [...this.#running].map(({ attempt, slot, startedAt }) => ({
      id: attempt.task.id,
      slot: slot?.number ?? 0,
      group: slot?.processGroup ?? null,
      runningFor: Math.round(now() - startedAt),
    }))
  }

  /** @throws ManyhostError MANYHOST_INVALID_OPTION for a template that cannot be read */
  openBundle(options: BundleOptions, listener: BundleListener): Bundle {
    const { settings } = this
    const { template, cwd, timeout, signalWait, monitor } = { ...settings, ...options }
    const bundle = new Bundle(
      {
        template: this.#templates.get(template),
        templates: this.#templates,
        shell: settings.shell,
        cwd: resolve(cwd ?? '.'),
        isCwdExplicit: cwd !== undefined,
        env: options.env ?? {},
        timeoutMs: shorterTimeout(settings.timeout, timeout),
        signalWaitMs: signalWait,
        monitor,
        clientId: this.id,
        clientHost: this.host,
        scriptFolder: this.#tempFolder,
        searchPath: this.#searchPath,
      },
      listener,
      this,
    )
    this.#bundles.add(bundle)
    return bundle
  }

  /** Cancels a task, waiting or running; false when it is not here. */
  cancel(id: string, fence?: number): boolean {
    for (const bundle of this.#bundles) if (bundle.cancelTask(id, fence)) return true
    return false
  }

  /** Starts nothing more: waiting tasks are returned, running ones go on to their end. */
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

  /** Kills what is left. Resolves when no process of a task is left. */
  async close(): Promise<void> {
    this.drain()
    this.#state = 'closed'
    this.#checkTimer.clear()
    this.#startTimer?.clear()
    await Promise.all(this.#slots.map((slot) => slot.close()))
    await this.#containment.close()
    rmSync(this.#tempFolder, { recursive: true, force: true })
  }

  // BundleOwner: called by bundles.

  add(entry: BundleEntry): void {
    if (this.#state !== 'working') return entry.bundle.returnTask(entry)
    const { task, timeoutMs } = entry.attempt
    const resources = { cores: task.cores ?? 1, memory: task.memory ?? 0, timeout: timeoutMs }
    const refusal = this.#schedule.explainRefusal(resources)
    if (refusal) return entry.bundle.settleUnstarted(entry, EXIT_NO_RESOURCES, refusal)
    this.#schedule.enqueue(entry, resources, now())
    this.#startTasks()
  }

  removeWaiting(entry: BundleEntry): boolean {
    return this.#schedule.remove(entry)
  }

  bundleClosed(bundle: Bundle): void {
    this.#bundles.delete(bundle)
    this.#idleSince = now()
    this.#checkDrained()
  }

  #startTasks(): void {
    while (this.#freeSlots.length > 0 && this.#schedule.waiting > 0) {
      const at = now()
      const waitMs = this.#startRate.msUntilNext(at)
      if (waitMs > 0) return this.#startTasksLater(waitMs)
      const entry = this.#schedule.startNext(at)
      if (!entry) {
        // The end of a running task brings the next try. If none runs, only time changes what the schedule answers.
        if (this.#running.size === 0) this.#startTasksLater(CHECK_INTERVAL_MS)
        return
      }
      this.#startRate.recordStart(at)
      void this.#run(entry, this.#freeSlots.pop() as RunnerSlot)
    }
  }

  #startTasksLater(waitMs: number): void {
    this.#startTimer ??= after(waitMs, () => {
      this.#startTimer = undefined
      this.#startTasks()
    })
  }

  async #run(entry: BundleEntry, slot: RunnerSlot): Promise<void> {
    entry.slot = slot
    entry.startedAt = now()
    this.#running.add(entry)
    const outcome = await entry.attempt.run(slot)
    this.#running.delete(entry)
    this.#schedule.release(entry)
    entry.slot = undefined
    this.#freeSlots.push(slot)
    // Before the outcome is reported: the start of the next task is what others wait for.
    this.#startTasks()
    entry.bundle.settle(entry, outcome)
    this.#checkDrained()
  }

  #checkDrained(): void {
    if (this.#state !== 'working' && this.#running.size === 0 && this.#bundles.size === 0) {
      this.#drained.resolve()
    }
  }

  /** Samples the usage of what runs, and ends what earlier tasks left behind. Linux only. */
  #checkProcesses(): void {
    const used = this.#slots.filter(
      (slot) => slot.hasRunSinceCheck && slot.processGroup !== undefined,
    )
    if (used.length === 0 || process.platform !== 'linux') return
    const groups = new Set(used.map(({ processGroup }) => processGroup as number))
    const strays = used.flatMap(({ strays, processGroup }) =>
      strays.map((pid): [number, number] => [pid, processGroup as number]),
    )
    const members = findGroupMembers(groups, new Map(strays))
    const entries = new Map([...this.#running].map((entry) => [entry.slot, entry]))
    const clocks = { at: now(), uptime: readUptime() }
    for (const slot of used) {
      const found = members.get(slot.processGroup as number) ?? []
      this.#checkSlot(slot, entries.get(slot), found, clocks)
    }
  }

  #checkSlot(
    slot: RunnerSlot,
    entry: BundleEntry | undefined,
    members: readonly GroupMember[],
    { at, uptime }: { readonly at: number; readonly uptime: number },
  ): void {
    // A member that is older than the present task was left behind by an earlier one.
    const taskBornAt = entry
      ? uptime - (at - entry.startedAt) / 1_000 - BIRTH_TOLERANCE_S
      : Number.POSITIVE_INFINITY
    if (members.some(({ bornAt }) => bornAt < taskBornAt)) void slot.replaceLauncher()
    if (!entry) {
      slot.hasRunSinceCheck = false
      return
    }
    const { usage } = entry.attempt
    if (usage) entry.attempt.writeUsageSample(usage.addSample(members, at, wallClock()))
  }
}

/** Runs tasks of many bundles on the places of this machine. Knows no HTTP. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, rmSync } from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { ManyhostError } from '../../core/errors.ts'
import { after, every, now, type Timer, wallClock } from '../../core/time.ts'
import { Containment } from '../../posix/containment.ts'
import { Templates } from '../accept.ts'
import { Schedule } from '../schedule.ts'
import { Attempt, CANCELLED, type Conditions, NO_RESOURCES, type Output } from './attempt.ts'
import { baseEnvironment } from './environment.ts'
import { membersOf, Usage, uptime } from './groups.ts'
import { parseRunnerOptions, type RunnerOptions, type RunnerSettings } from './options.ts'
import { Pace } from './pace.ts'
import { Place } from './place.ts'
import type { BundleOptions, Hello, OutputStream, RunOutcome, RunTask } from './protocol.ts'

/** Who handed a bundle in, and is told what becomes of it. */
export interface Listener {
  /** Answers false when it wants no more of this task until `Bundle.resume`. */
  output(index: number, stream: OutputStream, chunk: Buffer): boolean
  outcome(outcome: RunOutcome): void
  /** Was never started, and will not be here. */
  returned(task: RunTask): void
  /** All tasks of an ended bundle have their say. */
  done(): void
}

interface Entry {
  readonly attempt: Attempt
  readonly bundle: Bundle
  place: Place | undefined
  startedAt: number
}

/** How often places are looked at for what tasks left behind, and usage is sampled, in ms. */
const LOOK = 1_000

export class Runner {
  readonly id: string
  readonly host = hostname()
  readonly settings: RunnerSettings
  /** Resolves when it was told to drain or stop, and nothing is left. */
  readonly drained: Promise<void>
  readonly #schedule: Schedule<Entry>
  readonly #pace: Pace
  readonly #free: Place[] = []
  readonly #places: Place[] = []
  readonly #running = new Set<Entry>()
  readonly #bundles = new Set<Bundle>()
  readonly #templates = new Templates()
  readonly #folder: string
  readonly #containment: Containment
  readonly #look: Timer
  readonly #path: string | undefined
  #turn: Timer | undefined
  #state: 'working' | 'draining' | 'closed' = 'working'
  #idleSince = now()
  #drained!: () => void

  /** @throws ManyhostError MANYHOST_INVALID_OPTION */
  constructor(options: RunnerOptions = {}, env: NodeJS.ProcessEnv = process.env) {
    this.settings = parseRunnerOptions(options)
    const nonce = randomBytes(12).toString('hex')
    this.id = env.MANYHOST_INSTANCE ?? `runner-${nonce.slice(0, 12)}`
    this.#folder = join(tmpdir(), `manyhost-runner-${nonce}`)
    mkdirSync(this.#folder, { mode: 0o700 })
    const mark = `MANYHOST_RUNNER=${nonce}.`
    this.#containment = new Containment({ mark, folder: this.#folder })
    const base = { ...baseEnvironment(env), ...this.settings.env }
    this.#path = base.PATH
    const { places, cores, memory, patience, rate } = this.settings
    for (let slot = 1; slot <= places; slot++) {
      this.#places.push(new Place(slot, base, this.#containment, mark))
    }
    this.#free = this.#places.toReversed()
    this.#schedule = new Schedule({ places, cores, memory, patience })
    this.#pace = new Pace(rate)
    this.#look = every(LOOK, () => this.#lookAround())
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

  get hello(): Hello {
    return { clientId: this.id, clientHost: this.host, places: this.settings.places }
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
  get idle(): number {
    return this.#bundles.size > 0 ? 0 : now() - this.#idleSince
  }

  /** Tasks that run now, for people. */
  get tasks(): { id: string; slot: number; group: number | null; runningFor: number }[] {
    return [...this.#running].map(({ attempt, place, startedAt }) => ({
      id: attempt.task.id,
      slot: place?.slot ?? 0,
      group: place?.group ?? null,
      runningFor: Math.round(now() - startedAt),
    }))
  }

  /** @throws ManyhostError MANYHOST_INVALID_OPTION for a template that cannot be read */
  open(options: BundleOptions, listener: Listener): Bundle {
    const settings = this.settings
    const { template, cwd, timeout, signalWait, monitor } = { ...settings, ...options }
    const env = checkedEnv(options.env)
    const limits = [settings.timeout, timeout].filter((one) => one > 0)
    const conditions: Conditions = {
      template: this.#templates.get(template),
      templates: this.#templates,
      shell: settings.shell,
      cwd: resolve(cwd ?? '.'),
      isFolderAsked: cwd !== undefined,
      env,
      timeout: limits.length > 0 ? Math.min(...limits) : 0,
      signalWait,
      monitor,
      clientId: this.id,
      clientHost: this.host,
      folder: this.#folder,
      path: this.#path,
    }
    const bundle = new Bundle(conditions, listener, {
      add: (entry) => this.#add(entry),
      drop: (entry) => this.#schedule.remove(entry),
      closed: (one) => this.#forget(one),
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
    for (const entry of this.#schedule.clear()) entry.bundle.giveBack(entry)
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
    this.#look.clear()
    this.#turn?.clear()
    await Promise.all(this.#places.map((place) => place.close()))
    await this.#containment.close()
    rmSync(this.#folder, { recursive: true, force: true })
  }

  #add(entry: Entry): void {
    if (this.#state !== 'working') return entry.bundle.giveBack(entry)
    const { task, limit } = entry.attempt
    const wanted = { cores: task.cores ?? 1, memory: task.memory ?? 0, timeout: limit }
    const refusal = this.#schedule.refusal(wanted)
    if (refusal) return entry.bundle.settle(entry, this.#unstarted(entry, NO_RESOURCES, refusal))
    this.#schedule.add(entry, wanted, now())
    this.#fill()
  }

  #fill(): void {
    while (this.#free.length > 0 && this.#schedule.waiting > 0) {
      const at = now()
      const wait = this.#pace.wait(at)
      if (wait > 0) return this.#again(wait)
      const entry = this.#schedule.take(at)
      // One that may soon pass no longer, or be passed: time alone can change that.
      if (!entry) return this.#running.size === 0 ? this.#again(LOOK) : undefined
      this.#pace.started(at)
      void this.#run(entry, this.#free.pop() as Place)
    }
  }

  #again(wait: number): void {
    this.#turn ??= after(wait, () => {
      this.#turn = undefined
      this.#fill()
    })
  }

  async #run(entry: Entry, place: Place): Promise<void> {
    entry.place = place
    entry.startedAt = now()
    this.#running.add(entry)
    const outcome = await entry.attempt.run(place)
    this.#running.delete(entry)
    this.#schedule.release(entry)
    entry.place = undefined
    this.#free.push(place)
    // The next one first: its start is what others wait for.
    this.#fill()
    entry.bundle.settle(entry, outcome)
    this.#checkDrained()
  }

  #unstarted({ attempt }: Entry, exitStatus: number, message: string): RunOutcome {
    return unstarted(
      attempt.task,
      { clientId: this.id, clientHost: this.host },
      exitStatus,
      message,
    )
  }

  #forget(bundle: Bundle): void {
    this.#bundles.delete(bundle)
    this.#idleSince = now()
    this.#checkDrained()
  }

  #checkDrained(): void {
    if (this.#state !== 'working' && this.#running.size === 0 && this.#bundles.size === 0) {
      this.#drained()
    }
  }

  /** Usage of what runs, and an end to what others left behind. */
  #lookAround(): void {
    const soiled = this.#places.filter((place) => place.isSoiled && place.group !== undefined)
    if (soiled.length === 0 || process.platform !== 'linux') return
    const groups = new Set(soiled.map(({ group }) => group as number))
    const strays = soiled.flatMap(({ strays, group }) => strays.map((pid) => [pid, group] as const))
    const members = membersOf(groups, new Map(strays as [number, number][]))
    const entries = new Map([...this.#running].map((entry) => [entry.place, entry]))
    const [at, boot] = [now(), uptime()]
    for (const place of soiled) {
      const entry = entries.get(place)
      const found = members.get(place.group as number) ?? []
      // The kernel's clock of births has steps of 10 ms.
      const since = entry ? boot - (at - entry.startedAt) / 1_000 - 0.05 : Number.POSITIVE_INFINITY
      if (found.some(({ born }) => born < since)) void place.clear()
      if (!entry) place.isSoiled = false
      const { usage } = entry?.attempt ?? {}
      if (usage) entry?.attempt.sample(usage.sample(found, at, wallClock()))
    }
  }
}

/** What a bundle asks of its runner. */
interface Desk {
  add(entry: Entry): void
  drop(entry: Entry): boolean
  closed(bundle: Bundle): void
}

/** Tasks that were handed in together, and are answered together. */
export class Bundle {
  readonly #conditions: Conditions
  readonly #listener: Listener
  readonly #desk: Desk
  readonly #entries = new Map<string, Entry>()
  #count = 0
  #state: 'open' | 'ended' | 'cancelled' | 'closed' = 'open'

  constructor(conditions: Conditions, listener: Listener, desk: Desk) {
    this.#conditions = conditions
    this.#listener = listener
    this.#desk = desk
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
      return this.#listener.outcome(unstarted(task, { clientId, clientHost }, NO_RESOURCES, why))
    }
    const output: Output = (stream, chunk) => this.#listener.output(index, stream, chunk)
    const attempt = new Attempt(task, this.#conditions, output, now())
    if (attempt.usage) attempt.sample(Usage.TITLE)
    const entry: Entry = { attempt, bundle: this, place: undefined, startedAt: 0 }
    this.#entries.set(task.id, entry)
    this.#desk.add(entry)
  }

  /** Counts a line that was no task, so that indices stay those of the lines. */
  skip(): number {
    return this.#count++
  }

  /** No more tasks will come. */
  end(): void {
    if (this.#state === 'open') this.#state = 'ended'
    this.#check()
  }

  /** Nobody wants the outcomes any more: nothing more starts, what runs is interrupted. */
  cancel(): void {
    if (this.#state === 'closed') return
    this.#state = 'cancelled'
    for (const entry of [...this.#entries.values()]) {
      if (this.#desk.drop(entry)) this.#entries.delete(entry.attempt.task.id)
      else entry.attempt.interrupt('cancelled')
    }
    this.#check()
  }

  cancelTask(id: string, fence?: number): boolean {
    const entry = this.#entries.get(id)
    if (!entry || (fence !== undefined && entry.attempt.task.fence !== fence)) return false
    if (this.#desk.drop(entry)) {
      const { clientId, clientHost } = this.#conditions
      const who = { clientId, clientHost }
      this.settle(entry, unstarted(entry.attempt.task, who, CANCELLED, 'cancelled before it ran'))
    } else {
      entry.attempt.interrupt('cancelled')
    }
    return true
  }

  /** There is room for output again. */
  resume(): void {
    for (const { place } of this.#entries.values()) place?.resume()
  }

  settle(entry: Entry, outcome: RunOutcome): void {
    if (!this.#entries.delete(entry.attempt.task.id)) return
    if (this.#state !== 'cancelled') this.#listener.outcome(outcome)
    this.#check()
  }

  giveBack(entry: Entry): void {
    if (!this.#entries.delete(entry.attempt.task.id)) return
    if (this.#state !== 'cancelled') this.#listener.returned(entry.attempt.task)
    this.#check()
  }

  #check(): void {
    if (this.#state === 'open' || this.#state === 'closed' || this.#entries.size > 0) return
    this.#state = 'closed'
    this.#listener.done()
    this.#desk.closed(this)
  }
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
function checkedEnv(env: Readonly<Record<string, string>> = {}): Readonly<Record<string, string>> {
  for (const [name, value] of Object.entries(env)) {
    if (/^[A-Za-z_]\w*$/.test(name) && !value.includes('\0')) continue
    const message = `env: ${JSON.stringify(name.slice(0, 100))} is no name of a variable, or its value holds a NUL`
    throw new ManyhostError('MANYHOST_INVALID_OPTION', message)
  }
  return env
}

function unstarted(
  task: RunTask,
  who: { clientId: string; clientHost: string },
  exitStatus: number,
  message: string,
): RunOutcome {
  const { id, fence } = task
  const completionTime = wallClock()
  return { id, fence, exitStatus, command: null, ...who, startTime: null, completionTime, message }
}

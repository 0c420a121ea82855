/**
 * Works off a store of tasks: claims them, hands them to who carries them, and keeps what became of each. It knows tasks in
 * their thousands at most, however many there are.
 */
import type { Client } from '../../client.ts'
import { asError, describe, ManyhostError } from '../../errors.ts'
import type { Cluster } from '../../inside.ts'
import { virtualUrl } from '../../registry.ts'
import type { Session } from '../../session.ts'
import { after, every, now, sleep, type Timer } from '../../time.ts'
import type { OutputStream } from '../runner/protocol.ts'
import type { TaskFilter } from '../store/filter.ts'
import type { Store } from '../store/store.ts'
import type { NewTask, Task, TaskOutcome } from '../task.ts'
import type { Books } from './books.ts'
import type { Carrier, Desk } from './carrier.ts'
import { Life } from './life.ts'
import type { ServeSettings } from './options.ts'
import { type Ended, Outcomes } from './outcomes.ts'
import { Outputs } from './outputs.ts'
import { Requests } from './requests.ts'
import { nowhere, outputsFolder, resultOf, type TaskCounts, type TaskResult } from './result.ts'
import { Shell } from './shell.ts'

export interface ServerParts {
  readonly session: Session
  readonly store: Store
  readonly settings: ServeSettings
  /** Sees to it that there is a service for shell tasks. */
  open(): void
  /** Hears of each outcome. Nothing more is claimed while its promise is open. */
  ended(results: readonly TaskResult[]): void | Promise<void>
}

/** Tasks that run for longer are looked after in the store: somebody may have cancelled them. In ms. */
const LOOK_AFTER = 1_000

/** Between two claims that are small beside what runs, in ms. */
const SOON = 20

type State = 'working' | 'draining' | 'ended'

interface Running {
  readonly task: Task
  readonly carrier: Carrier
  readonly since: number
}

export class TaskServer implements Desk {
  /** Resolves when all is done, or it was told to drain or stop. Rejects with what keeps it from going on. */
  readonly done: Promise<void>
  readonly store: Store
  readonly session: Session
  readonly shell: Shell
  readonly #settings: ServeSettings
  readonly #parts: ServerParts
  readonly #client: Client
  readonly #runnersUrl: string
  readonly #outcomes: Outcomes
  readonly #outputs: Outputs
  readonly #requests = new Map<Cluster, Requests>()
  /** Claimed, and with somebody. */
  readonly #running = new Map<string, Running>()
  /** Claimed, and with nobody yet, by where they go. */
  readonly #waiting = new Map<Carrier, Task[]>()
  #returned: Task[] = []
  #life: Life | undefined
  #state: State = 'working'
  #isSourceOpen = true
  #isPumping = false
  #again = false
  /** The last claim gave nothing, and nothing has happened since. */
  #isDry = false
  #offAdded: (() => void) | undefined
  #offInstance: (() => void) | undefined
  #poll: Timer | undefined
  #finish!: () => void
  #fail!: (error: Error) => void
  #counts = { submitted: 0, succeeded: 0, failed: 0, cancelled: 0, retried: 0, refused: 0 }
  #lastProblem = ''
  #blocked = -1
  #claimedAt = 0
  #soon: Timer | undefined
  /** Who reads outcomes slower than they come. */
  #listener: Promise<void> | undefined

  constructor(
    parts: ServerParts,
    books: Books,
    bundle: ConstructorParameters<typeof Shell>[0]['bundle'],
    token: string | undefined,
  ) {
    const { session, store, settings } = parts
    this.#parts = parts
    this.#settings = settings
    this.session = session
    this.store = store
    this.#client = session.client()
    this.#runnersUrl = virtualUrl(settings.url as string).href
    const url = settings.url as string
    this.shell = new Shell(
      {
        url,
        token,
        client: this.#client,
        cluster: () => this.#runners(),
        open: parts.open,
        books,
        bundle,
        bundleSize: settings.bundleSize,
        priority: settings.priority,
      },
      this,
    )
    this.#outputs = new Outputs({
      folder: settings.outputs ?? outputsFolder(store),
      capture: settings.capture,
      onOutput: settings.onOutput,
      onProblem: (message) => this.problem(message),
    })
    this.#outcomes = new Outcomes({
      store,
      size: settings.bundleSize,
      wait: settings.bundleWait,
      kept: (all, refused) => this.#kept(all, refused),
      problem: (message) => this.problem(message),
      failed: (error) => this.failed(error),
    })
    this.#offInstance = session.on('instance', ({ service, instance, state }) => {
      if (state === 'ready') this.moved()
      if (service !== this.#runnersUrl || (state !== 'stopped' && state !== 'failed')) return
      books.forget(instance)
      // What it holds and nobody has taken back is nobody's.
      if (settings.confirm && this.#life) {
        this.store.disconnect(instance).catch((error) => this.problem(describe(error)))
      }
    })
    this.done = new Promise((finish, fail) => {
      this.#finish = finish
      this.#fail = fail
    })
    this.done.catch(() => {})
  }

  /** Joins the store, and begins. */
  async start(): Promise<void> {
    const { poll, evictAfter } = this.#settings
    this.#life = await Life.begin({
      store: this.store,
      lease: evictAfter,
      evicted: () => this.#evicted(),
      recovered: (tasks) =>
        this.problem(`${tasks} tasks of servers that are gone are in the queue again`),
      problem: (message) => this.problem(message),
    })
    this.#offAdded = this.store.onAdded(() => this.#wake())
    this.#poll = every(poll, () => {
      this.#wake()
      void this.#lookAfter()
    })
    this.#wake()
  }

  /** Id in the store. */
  get id(): string {
    return this.#life?.id ?? ''
  }

  get state(): State {
    return this.#state
  }

  get counts(): TaskCounts {
    return { ...this.#counts }
  }

  /** Tasks that it holds. */
  get held(): number {
    return this.#running.size + this.#waitingCount()
  }

  get attempts(): number {
    return this.#settings.maxRetries + 1
  }

  /** Whatever is handed in through this server. */
  async add(tasks: readonly NewTask[], submitId?: string): Promise<string[]> {
    return this.store.add(tasks, submitId === undefined ? {} : { submitId })
  }

  /** Counts tasks of the source. */
  fed(count: number): void {
    this.#counts.submitted += count
  }

  /** Nothing more will come: it ends when nothing is left. */
  sourceEnded(): void {
    this.#isSourceOpen = false
    this.#wake()
  }

  /** Resolves when fewer than `backlog` tasks wait in the store. */
  async room(): Promise<void> {
    const { backlog } = this.#settings
    if (backlog === Number.POSITIVE_INFINITY) return
    while (this.#state === 'working' && (await this.store.counts()).new >= backlog) await sleep(5)
  }

  /** Starts nothing more; what runs ends in its time. */
  drain(): void {
    if (this.#state !== 'working') return
    this.#state = 'draining'
    this.#wake()
  }

  /** Drains, and ends what runs: it goes back to the queue. */
  stop(): void {
    this.drain()
    this.shell.stop()
    for (const one of this.#requests.values()) one.stop()
  }

  /** Cancels tasks, running ones too. Answers how many. */
  async cancel(filter: TaskFilter): Promise<number> {
    const count = await this.store.cancel(filter)
    if (count > 0) await this.#lookAfter(0)
    return count
  }

  /** Leaves the store. To be called when `done` has settled. */
  async close(): Promise<void> {
    this.#state = 'ended'
    this.#poll?.clear()
    this.#soon?.clear()
    this.#offAdded?.()
    this.#offInstance?.()
    this.shell.stop()
    for (const one of this.#requests.values()) one.stop()
    // What is stopped says so; who does not has lost its claim by `leave`.
    for (let i = 0; i < 400 && this.#running.size > 0; i++) await sleep(5)
    await this.#outcomes.flush()
    this.#outcomes.close()
    try {
      await this.#life?.end()
    } finally {
      await this.#client.close()
    }
  }

  // What carriers say.

  settled(task: Task, outcome: TaskOutcome, message: string | undefined): void {
    const wrote =
      message !== undefined ||
      this.#outputs.keeps(task) ||
      this.#settings.onOutput ||
      this.#settings.monitor
    if (!wrote) return this.#outcomes.add({ task, outcome, message })
    this.#outputs.end(task, message).then(
      (paths) => this.#outcomes.add({ task, outcome: { ...outcome, ...paths }, message }),
      (error) => {
        this.problem(describe(error))
        this.#outcomes.add({ task, outcome, message })
      },
    )
  }

  returned(task: Task): void {
    this.#outputs.drop(task)
    this.#returned.push(task)
    this.#pump()
  }

  output(task: Task, stream: OutputStream, chunk: Uint8Array): Promise<void> {
    return this.#outputs.write(task, stream, chunk)
  }

  confirmed(clientId: string, clientHost: string, tasks: readonly Task[]): void {
    if (!this.#settings.confirm) return
    this.#confirm(clientId, clientHost, tasks).catch((error) => this.problem(describe(error)))
  }

  moved(): void {
    this.#pump()
  }

  problem(message: string): void {
    if (message === this.#lastProblem) return
    this.#lastProblem = message
    this.#settings.onProblem?.(message)
  }

  failed(error: Error): void {
    if (this.#state === 'ended') return
    this.#state = 'ended'
    this.#fail(error)
  }

  // The way of a task.

  #wake(): void {
    this.#isDry = false
    this.#pump()
  }

  #pump(): void {
    if (this.#isPumping) {
      this.#again = true
      return
    }
    if (!this.#life) return
    this.#isPumping = true
    void this.#work()
  }

  async #work(): Promise<void> {
    try {
      do {
        this.#again = false
        await this.#giveBack()
        this.#deliver()
        if (this.#state === 'working' && (await this.#claim())) this.#again = true
      } while (this.#again && this.#state !== 'ended')
      await this.#checkEnd()
    } catch (error) {
      const isPassing = error instanceof ManyhostError && error.retryable
      if (!isPassing) return this.failed(asError(error))
      this.problem(describe(error))
      await sleep(200)
      this.#again = true
    } finally {
      this.#isPumping = false
    }
    if (this.#again && this.#state !== 'ended') this.#pump()
  }

  /** Claims what can go on its way now. Answers whether there was something. */
  async #claim(): Promise<boolean> {
    const limit = this.#limit()
    if (limit <= 0 || this.#isDry) return false
    // Where much runs, little room is not worth a transaction: a moment later there is more.
    if (limit < Math.min(this.#running.size / 2, this.#settings.bundleSize)) {
      if (now() - this.#claimedAt < SOON) {
        this.#soon ??= after(SOON, () => {
          this.#soon = undefined
          this.#pump()
        })
        return false
      }
    }
    this.#claimedAt = now()
    if (this.#listener) {
      await this.#listener
      this.#listener = undefined
    }
    this.#isDry = true
    const { eager } = this.#settings
    let tasks: Task[]
    try {
      tasks = await this.store.claim({ server: this.id, limit, attempts: this.attempts, eager })
    } catch (error) {
      if ((error as ManyhostError).code !== 'MANYHOST_SERVER_EVICTED') throw error
      // The next beat makes it a new one.
      this.problem(describe(error))
      return false
    }
    if (tasks.length === 0) return false
    this.#isDry = false
    for (const task of tasks) this.#route(task)
    return true
  }

  /** As many as those who have nothing waiting would take; none while too much waits for others. */
  #limit(): number {
    const { bundleSize } = this.#settings
    if (this.#waitingCount() >= bundleSize || this.#outcomes.size > 10 * bundleSize) return 0
    let most = this.#waiting.get(this.shell)?.length ? 0 : this.shell.room()
    for (const one of this.#carriers()) {
      if (!this.#waiting.get(one)?.length) most = Math.max(most, one.room())
    }
    return Math.min(most, bundleSize)
  }

  #runners(): Cluster | undefined {
    return this.session.clusters.find(({ url }) => url === this.#runnersUrl)
  }

  #carriers(): Requests[] {
    for (const cluster of this.session.clusters) {
      if (this.#requests.has(cluster) || cluster.url === this.#runnersUrl) continue
      this.#requests.set(cluster, this.#requestsTo(cluster))
    }
    return [...this.#requests.values()]
  }

  #requestsTo(cluster: Cluster): Requests {
    const { priority, taskTimeout } = this.#settings
    return new Requests(
      cluster,
      {
        session: this.session,
        client: this.#client,
        priority,
        timeout: taskTimeout,
        keeps: (task) => this.#outputs.keeps(task) || this.#settings.onOutput !== undefined,
      },
      this,
    )
  }

  #route(task: Task): void {
    let carrier: Carrier = this.shell
    if (task.request) {
      const { origin, pathname } = new URL(task.request.url)
      const cluster = this.session.match(origin, pathname)
      // A task never goes to the network: whoever hands tasks in would reach what only this machine can reach.
      if (!cluster) {
        this.#running.set(task.id, { task, carrier, since: now() })
        const why = `no service is at ${task.request.url}`
        return this.settled(task, nowhere(task), why)
      }
      let requests = this.#requests.get(cluster)
      if (!requests) {
        requests = this.#requestsTo(cluster)
        this.#requests.set(cluster, requests)
      }
      carrier = requests
    }
    const waiting = this.#waiting.get(carrier)
    if (waiting) waiting.push(task)
    else this.#waiting.set(carrier, [task])
  }

  #deliver(): void {
    for (const [carrier, waiting] of this.#waiting) {
      while (waiting.length > 0) {
        const tasks = waiting.splice(0, this.#state === 'working' ? carrier.room() : 0)
        if (tasks.length === 0) break
        const since = now()
        for (const task of tasks) this.#running.set(task.id, { task, carrier, since })
        carrier.take(tasks)
      }
      if (waiting.length === 0) this.#waiting.delete(carrier)
      else if (this.#state !== 'working') {
        this.#waiting.delete(carrier)
        this.#returned.push(...waiting)
      }
    }
  }

  async #giveBack(): Promise<void> {
    const tasks = this.#returned
    if (tasks.length === 0) return
    this.#returned = []
    try {
      await this.store.release(tasks)
    } catch (error) {
      this.#returned.push(...tasks)
      throw error
    }
    for (const { id, fence } of tasks) this.#forget(id, fence)
  }

  async #kept(all: readonly Ended[], refused: ReadonlyMap<string, string>): Promise<void> {
    const results: TaskResult[] = []
    for (const { task, outcome, message } of all) {
      this.#forget(task.id, task.fence)
      if (refused.has(task.id)) {
        this.#counts.refused++
        continue
      }
      const { exitStatus } = outcome
      const willRetry = exitStatus !== 0 && exitStatus !== -1 && task.attempt < this.attempts
      if (exitStatus === 0) this.#counts.succeeded++
      else if (exitStatus === -1) this.#counts.cancelled++
      else if (willRetry) this.#counts.retried++
      else this.#counts.failed++
      results.push(resultOf(task, outcome, willRetry, message))
    }
    this.#wake()
    const listening = this.#parts.ended(results)
    if (listening) this.#listener = listening
  }

  #forget(id: string, fence: number): void {
    if (this.#running.get(id)?.task.fence === fence) this.#running.delete(id)
  }

  async #confirm(clientId: string, clientHost: string, tasks: readonly Task[]): Promise<void> {
    await this.#connected(clientId, clientHost)
    const held = new Set(await this.store.confirm(clientId, clientHost, tasks))
    for (const task of tasks) {
      if (held.has(task.id) || !this.#running.has(task.id)) continue
      // Taken back meanwhile, and not because it has ended already.
      const [found] = await this.store.find([task.id])
      if (found?.completionTime === null && found.fence === task.fence && found.serverId) continue
      this.#running.get(task.id)?.carrier.cancel(task)
    }
  }

  readonly #clients = new Map<string, Promise<void>>()

  #connected(id: string, host: string): Promise<void> {
    let known = this.#clients.get(id)
    if (!known) {
      known = this.store.connect({
        id,
        host,
        serverId: this.id,
        serverHost: this.#life?.host ?? '',
      })
      this.#clients.set(id, known)
      // Runners come and go for months.
      if (this.#clients.size > 1_000) this.#clients.delete([...this.#clients.keys()][0] as string)
    }
    return known
  }

  /** Tasks that run for long: does the store still say that they are ours? */
  async #lookAfter(age = LOOK_AFTER): Promise<void> {
    const before = now() - age
    const long: Running[] = []
    for (const one of this.#running.values()) {
      if (one.since > before) break
      long.push(one)
      if (long.length >= 1_000) break
    }
    if (long.length === 0) return
    try {
      const found = new Map(
        (await this.store.find(long.map(({ task }) => task.id))).map((task) => [task.id, task]),
      )
      for (const { task, carrier } of long) {
        if (!this.#running.has(task.id)) continue
        const known = found.get(task.id)
        const isOurs =
          known?.fence === task.fence && known.exitStatus === null && known.serverId === this.id
        // An outcome that waits to be kept is no reason to end anything.
        if (!isOurs) carrier.cancel(task)
      }
    } catch (error) {
      this.problem(describe(error))
    }
  }

  #evicted(): void {
    this.#clients.clear()
    for (const { task, carrier } of this.#running.values()) carrier.cancel(task)
    this.#returned.push(...[...this.#waiting.values()].flat())
    this.#waiting.clear()
    this.#wake()
  }

  #waitingCount(): number {
    let count = 0
    for (const waiting of this.#waiting.values()) count += waiting.length
    return count
  }

  async #checkEnd(): Promise<void> {
    if (this.#state === 'ended' || this.#again) return
    const isBusy = this.#running.size > 0 || this.#waitingCount() > 0 || this.#returned.length > 0
    if (isBusy) return
    if (this.#state === 'draining') return this.#end()
    if (!this.#isDry) return
    const turn = await this.store.turn(this.attempts)
    if (turn.is === 'blocked') {
      const text = `${turn.failedOut} tasks of group ${turn.group} failed for good, and those of later groups are held back (manyhost tasks list -F -g ${turn.group}; update --revert, --delete or --cancel them)`
      if (!this.#settings.forever && !this.#isSourceOpen) {
        return this.failed(new ManyhostError('MANYHOST_GROUP_FAILED', text))
      }
      if (this.#blocked !== turn.group) this.problem(text)
      this.#blocked = turn.group
      return
    }
    this.#blocked = -1
    const isOver = turn.is === 'done' && !this.#settings.forever && !this.#isSourceOpen
    if (isOver && !this.#again && this.#running.size === 0) this.#end()
  }

  #end(): void {
    this.#state = 'ended'
    this.#finish()
  }
}

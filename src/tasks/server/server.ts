/**
 * Works off a store of tasks: claims them, hands them to who carries them, and keeps what became of each. It knows tasks in
 * their thousands at most, however many there are.
 */

import { resolve } from 'node:path'
import type { Client } from '../../client/client.ts'
import { asError, describe, ManyhostError } from '../../core/errors.ts'
import { virtualUrl } from '../../core/registry.ts'
import { every, sleep } from '../../core/time.ts'
import type { Session } from '../../session/session.ts'
import { acceptor } from '../accept.ts'
import type { OutputStream } from '../runner/protocol.ts'
import type { TaskFilter } from '../store/filter.ts'
import type { Serving } from '../store/servers.ts'
import type { Store } from '../store/store.ts'
import type { NewTask, Task, TaskOutcome } from '../task.ts'
import type { Books } from './books.ts'
import { Cancellations } from './cancellations.ts'
import type { Carrier, Desk } from './carrier.ts'
import { Claiming } from './claiming.ts'
import { Held } from './held.ts'
import { Life } from './life.ts'
import type { ServeSettings } from './options.ts'
import { Outcomes } from './outcomes.ts'
import { Outputs } from './outputs.ts'
import { type Ended, heldBack, outputsFolder, type TaskCounts, type TaskResult } from './result.ts'
import { Routes } from './routes.ts'
import { Shell } from './shell.ts'
import { Tally } from './tally.ts'
import { Watch } from './watch.ts'

export interface ServerParts {
  readonly session: Session
  readonly store: Store
  readonly settings: ServeSettings
  /** What is its own; open: it also runs what is handed in for whoever serves the store. */
  readonly serving: Serving
  /** Sees to it that there is a service for shell tasks. */
  open(): void
  /** Hears of each outcome. Nothing more is claimed while its promise is open. */
  ended(results: readonly TaskResult[]): Promise<void>
}

type State = 'working' | 'draining' | 'ended'

export class TaskServer implements Desk {
  /** Resolves when all is done, or it was told to drain or stop. Rejects with what keeps it from going on. */
  readonly done: Promise<void>
  readonly store: Store
  readonly shell: Shell
  /** Its own batch, and, where it is open, that of all tasks that have none. */
  readonly batches: readonly string[]
  /** Makes of a task that is handed in through this server what is stored of it. */
  readonly accept: (task: NewTask) => NewTask | Promise<NewTask>
  readonly #settings: ServeSettings
  readonly #parts: ServerParts
  readonly #client: Client
  readonly #outcomes: Outcomes
  readonly #outputs: Outputs
  readonly #held = new Held()
  readonly #routes: Routes
  readonly #watch: Watch
  readonly #claiming: Claiming
  readonly #tally: Tally
  readonly #cancellations: Cancellations
  #life: Life | undefined
  #state: State = 'working'
  #isSourceOpen = true
  #isPumping = false
  #again = false
  /** Ends its listening and looking. */
  readonly #offs: (() => void)[] = []
  #finish!: () => void
  #fail!: (error: Error) => void
  #lastProblem = ''
  #blocked = -1
  /** Who reads outcomes slower than they come. */
  #listener: Promise<void> | undefined

  constructor(
    parts: ServerParts,
    books: Books,
    bundle: ConstructorParameters<typeof Shell>[0]['bundle'],
    token: string | undefined,
  ) {
    const { session, store, settings, serving } = parts
    this.#parts = parts
    this.batches = serving.isOpen ? [serving.batch, ''] : [serving.batch]
    this.accept = acceptor({ template: settings.template, shell: settings.shell })
    this.#settings = settings
    this.store = store
    this.#client = session.client()
    const url = settings.url as string
    const runnersUrl = virtualUrl(url).href
    this.shell = new Shell(
      {
        url,
        token,
        client: this.#client,
        cluster: () => session.clusters.find((one) => one.url === runnersUrl),
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
      attempts: this.attempts,
      wait: settings.bundleWait,
      running: () => this.#held.runningCount,
      outputs: this.#outputs,
      mayWrite: settings.onOutput !== undefined || settings.monitor,
      kept: (all, refused) => this.#kept(all, refused),
      problem: (message) => this.problem(message),
      failed: (error) => this.failed(error),
    })
    this.#routes = new Routes(
      {
        session,
        shell: this.shell,
        runnersUrl,
        priority: settings.priority,
        timeout: settings.taskTimeout,
        keeps: (task) => this.#outputs.keeps(task) || settings.onOutput !== undefined,
      },
      this,
    )
    this.#tally = new Tally(this.attempts)
    const self = () => ({ id: this.id, host: this.#life?.host ?? '' })
    this.#cancellations = new Cancellations({ store, serving, batches: this.batches, self })
    this.#claiming = new Claiming({
      store,
      bundleSize: settings.bundleSize,
      again: () => this.#pump(),
      problem: (message) => this.problem(message),
    })
    this.#watch = new Watch({
      store,
      held: this.#held,
      self,
      problem: (message) => this.problem(message),
    })
    const offInstance = session.on('instance', ({ service, instance, state }) => {
      if (state === 'ready') this.moved()
      if (service !== runnersUrl || (state !== 'stopped' && state !== 'failed')) return
      books.forget(instance)
      if (settings.confirm && this.#life) this.#watch.gone(instance, state === 'failed')
    })
    this.#offs.push(offInstance)
    this.done = new Promise((finish, fail) => {
      this.#finish = finish
      this.#fail = fail
    })
    this.done.catch(() => {})
  }

  /** Joins the store, and begins. */
  async start(): Promise<void> {
    const { poll, evictAfter } = this.#settings
    const { serving } = this.#parts
    const life = await Life.begin({
      store: this.store,
      serving,
      lease: evictAfter,
      evicted: () => this.#evicted(),
      recovered: (tasks) => {
        this.problem(`${tasks} tasks of servers that are gone are in the queue again`)
        if (this.#life) this.#adopt().catch((error) => this.problem(describe(error)))
      },
      problem: (message) => this.problem(message),
    })
    await this.#adopt()
    this.#life = life
    const timer = every(poll, () => {
      this.#cancellations.mayBe = true
      this.#wake()
      void this.#watch.lookAfter()
    })
    this.#offs.push(
      () => timer.clear(),
      () => this.#watch.close(),
      this.store.onAdded(() => this.#wake()),
    )
    this.#wake()
  }

  /** Takes over what others have left of this folder, where that is asked for. */
  async #adopt(): Promise<void> {
    const { restart, cwd } = this.#settings
    if (!restart) return
    const { batch } = this.#parts.serving
    const { attempts, store } = this
    await store.adopt({ batch, cwd: resolve(cwd ?? '.'), attempts })
  }

  /** Id in the store. */
  get id(): string {
    return this.#life?.id ?? ''
  }

  get state(): State {
    return this.#state
  }

  get counts(): TaskCounts {
    return this.#tally.counts
  }

  /** Tasks that it holds. */
  get held(): number {
    return this.#held.size
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
    this.#tally.submitted(count)
  }

  /** Nothing more will come: it ends when nothing is left. */
  sourceEnded(): void {
    this.#isSourceOpen = false
    this.#wake()
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
    this.#routes.stop()
    this.#outputs.close()
  }

  /** Cancels tasks, running ones too. Answers how many. */
  async cancel(filter: TaskFilter): Promise<number> {
    const count = await this.store.cancel(filter)
    if (count > 0) {
      await this.#watch.lookAfter(0)
      this.#cancellations.mayBe = true
      this.#wake()
    }
    return count
  }

  /** Leaves the store. To be called when `done` has settled. */
  async close(): Promise<void> {
    this.#state = 'ended'
    this.#claiming.close()
    for (const off of this.#offs.splice(0)) off()
    this.stop()
    // What is stopped says so; who does not has lost its claim by `leave`.
    for (let i = 0; i < 400 && this.#held.runningCount > 0; i++) await sleep(5)
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
    this.#outcomes.settle({ task, outcome, message })
  }

  returned(task: Task): void {
    this.#outputs.drop(task)
    this.#held.giveBack([task])
    this.#pump()
  }

  output(task: Task, stream: OutputStream, chunk: Uint8Array): Promise<void> {
    return this.#outputs.write(task, stream, chunk)
  }

  confirmed(clientId: string, clientHost: string, tasks: readonly Task[]): void {
    if (this.#settings.confirm) this.#watch.confirmed(clientId, clientHost, tasks)
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

  #wake(): void {
    this.#claiming.wake()
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
        if (this.#cancellations.mayBe) await this.#tellCancelled()
        if (this.#state === 'working') this.#held.deliver()
        else this.#held.giveBack(this.#held.clearWaiting())
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
    const carriers = this.#routes.all()
    const asks = this.#claiming.asks(carriers, this.#held, this.#outcomes.size)
    if (asks.length === 0) return false
    await this.#listener
    this.#listener = undefined
    const { id: server, attempts, batches } = this
    const { eager } = this.#settings
    let count = 0
    for (const ask of asks) {
      const tasks = await this.#claiming.claim({ ...ask, server, attempts, eager, batches })
      const takers = new Set<Carrier>()
      for (const claimed of tasks) {
        const task = this.#asStored(claimed)
        const carrier = this.#routes.to(task)
        this.#held.wait(task, carrier)
        takers.add(carrier)
      }
      this.#claiming.claimed(ask, tasks.length, takers, carriers)
      count += tasks.length
    }
    return count > 0
  }

  /**
   * Tasks of an older version were stored without their template: what `restart` is given is for these. All others have what
   * they were stored with.
   */
  #asStored(task: Task): Task {
    const { restart, template } = this.#settings
    const { cwd, request, command } = task
    const isKnown = cwd !== null || request !== null || command !== null || task.template !== null
    return restart && template !== '{}' && !isKnown ? { ...task, template } : task
  }

  async #giveBack(): Promise<void> {
    const tasks = this.#held.returned()
    if (tasks.length === 0) return
    const count = await this.store.release(tasks)
    this.#held.released(tasks)
    if (count === tasks.length) return
    const cancelled = await this.#cancellations.among(tasks)
    if (cancelled.length > 0) await this.#tell(this.#tally.cancelled(cancelled))
  }

  /** What was cancelled while nobody had claimed it. Answers whether there was something. */
  async #tellCancelled(): Promise<boolean> {
    let isSome = false
    for await (const tasks of this.#cancellations.untold()) {
      await this.#tell(this.#tally.cancelled(tasks))
      isSome = true
    }
    return isSome
  }

  async #tell(results: readonly TaskResult[]): Promise<void> {
    await this.#listener
    this.#listener = this.#parts.ended(results)
  }

  async #kept(all: readonly Ended[], refused: ReadonlyMap<string, string>): Promise<void> {
    for (const { task } of all) this.#held.forget(task.id, task.fence)
    const late = all.filter(({ task }) => refused.get(task.id) === 'evicted')
    const cancelled =
      late.length > 0 ? await this.#cancellations.among(late.map(({ task }) => task)) : []
    const ids = new Set(cancelled.map(({ id }) => id))
    const rest = ids.size > 0 ? all.filter(({ task }) => !ids.has(task.id)) : all
    const results = [...this.#tally.ended(rest, refused), ...this.#tally.cancelled(cancelled)]
    this.#wake()
    this.#listener = this.#parts.ended(results)
  }

  #evicted(): void {
    this.#watch.restart()
    for (const { task, carrier } of this.#held.running()) carrier.cancel(task)
    this.#held.giveBack(this.#held.clearWaiting())
    this.#wake()
  }

  async #checkEnd(): Promise<void> {
    if (this.#state === 'ended' || this.#again) return
    if (this.#held.size > 0) return
    if (this.#state === 'draining') {
      await this.#tellCancelled()
      return this.#end()
    }
    if (!this.#claiming.isDry) return
    const turn = await this.store.turn(this.attempts, this.batches)
    const isLast = !this.#settings.forever && !this.#isSourceOpen
    if (turn.is === 'blocked') {
      if (isLast) return this.failed(new ManyhostError('MANYHOST_GROUP_FAILED', heldBack(turn)))
      if (this.#blocked !== turn.group) this.problem(heldBack(turn))
      this.#blocked = turn.group
      return
    }
    this.#blocked = -1
    if (!isLast || turn.is !== 'done') return
    if (await this.#tellCancelled()) return this.#wake()
    if (!this.#again && this.#held.size === 0) this.#end()
  }

  #end(): void {
    this.#state = 'ended'
    this.#finish()
  }
}

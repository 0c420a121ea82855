/** Holds what runs against what the store says: a task that was cancelled, or given to somebody else, is ended. */
import { describeError } from '../../core/errors.ts'
import { after, now, type Timer } from '../../core/time.ts'
import type { Task } from '../model/task.ts'
import type { Store } from '../store/store.ts'
import type { ClaimedTasks, RunningTask } from './claimed-tasks.ts'

/** Tasks that run for longer are looked after. In ms. */
const CHECK_AFTER_MS = 1_000

/** Tasks of one look. */
const MAX_TASKS_PER_CHECK = 1_000

/**
 * So long after a runner said that it has them, the store hears of tasks that run: most are over by then, and an outcome
 * names the runner as well. In ms.
 */
const CONFIRM_DELAY_MS = 500

interface PendingConfirmation {
  readonly clientId: string
  readonly clientHost: string
  readonly tasks: readonly Task[]
  /** On the clock of `now()`. */
  readonly dueAt: number
}

export interface TaskReaperParts {
  readonly store: Store
  readonly held: ClaimedTasks
  /** The server, as it is in the store now. */
  self(): { readonly id: string; readonly host: string }
  reportProblem(message: string): void
}

export class TaskReaper {
  readonly #parts: TaskReaperParts
  /** Runners that the store knows. */
  readonly #connectedRunners = new Map<string, Promise<void>>()
  readonly #pendingConfirmations: PendingConfirmation[] = []
  #timer: Timer | undefined

  constructor(parts: TaskReaperParts) {
    this.#parts = parts
  }

  /** A runner says that it has these. The store hears of those that are not over soon. */
  scheduleConfirmation(clientId: string, clientHost: string, tasks: readonly Task[]): void {
    this.#connectRunner(clientId, clientHost).catch((error) =>
      this.#parts.reportProblem(describeError(error)),
    )
    this.#pendingConfirmations.push({
      clientId,
      clientHost,
      tasks,
      dueAt: now() + CONFIRM_DELAY_MS,
    })
    this.#timer ??= after(CONFIRM_DELAY_MS, this.#confirmDueTasks)
  }

  /** A runner is gone: what it holds, and nobody has taken back, is nobody's. */
  disconnectRunner(id: string, isEvicted: boolean): void {
    const { store, reportProblem: problem } = this.#parts
    store.disconnectClient(id, { isEvicted }).catch((error) => problem(describeError(error)))
  }

  readonly #confirmDueTasks = (): void => {
    const at = now()
    let [first] = this.#pendingConfirmations
    for (; first && first.dueAt <= at; [first] = this.#pendingConfirmations) {
      this.#pendingConfirmations.shift()
      void this.#confirm(first)
    }
    this.#timer = first && after(first.dueAt - at, this.#confirmDueTasks)
  }

  close(): void {
    this.#timer?.clear()
  }

  /** Never rejects. */
  async #confirm({ clientId, clientHost, tasks }: PendingConfirmation): Promise<void> {
    const { store, held, reportProblem: problem } = this.#parts
    const running = tasks.filter(({ id, fence }) => held.findRunning(id)?.task.fence === fence)
    if (running.length === 0) return
    try {
      await this.#connectRunner(clientId, clientHost)
      const claims = running.map(({ id, fence }) => ({ id, fence }))
      const ours = new Set(await store.confirm(clientId, clientHost, claims))
      for (const task of running) {
        if (ours.has(task.id) || !held.findRunning(task.id)) continue
        // Taken back meanwhile, and not because it has ended already.
        const [found] = await store.find([task.id])
        if (found?.completionTime === null && found.fence === task.fence && found.serverId) continue
        held.findRunning(task.id)?.executor.cancel(task)
      }
    } catch (error) {
      problem(describeError(error))
    }
  }

  /** Of tasks that run for long (or for `age` ms): does the store still say that they are ours? Never rejects. */
  async checkRunning(age = CHECK_AFTER_MS): Promise<void> {
    const { store, held, self, reportProblem: problem } = this.#parts
    const before = now() - age
    const long: RunningTask[] = []
    for (const one of held.listRunning()) {
      if (one.startedAt > before) break
      long.push(one)
      if (long.length >= MAX_TASKS_PER_CHECK) break
    }
    if (long.length === 0) return
    try {
      const found = new Map(
        (await store.find(long.map(({ task }) => task.id))).map((task) => [task.id, task]),
      )
      for (const { task, executor: carrier } of long) {
        if (!held.findRunning(task.id)) continue
        const known = found.get(task.id)
        const isOurs =
          known?.fence === task.fence && known.exitStatus === null && known.serverId === self().id
        // An outcome that waits to be kept is no reason to end anything.
        if (!isOurs) carrier.cancel(task)
      }
    } catch (error) {
      problem(describeError(error))
    }
  }

  /** The server is a new one: its runners are to be made known again. */
  forgetRunners(): void {
    this.#connectedRunners.clear()
  }

  #connectRunner(id: string, host: string): Promise<void> {
    let known = this.#connectedRunners.get(id)
    if (!known) {
      const self = this.#parts.self()
      known = this.#parts.store.connectClient({
        id,
        host,
        serverId: self.id,
        serverHost: self.host,
      })
      this.#connectedRunners.set(id, known)
      // Runners come and go for months.
      if (this.#connectedRunners.size > 1_000)
        this.#connectedRunners.delete([...this.#connectedRunners.keys()][0] as string)
    }
    return known
  }
}

/**
 * Compares what runs here with what the store says. A task that was cancelled, or that another server got, is ended here.
 * The store learns from here which runner has which task.
 */
import { describeError } from '../../core/errors.ts'
import { Fifo } from '../../core/fifo.ts'
import { after, now, type Timer } from '../../core/time.ts'
import type { Task } from '../model/task.ts'
import type { Store } from '../store/store.ts'
import type { ClaimedTasks, RunningTask } from './claimed-tasks.ts'
import type { ProblemReporter } from './problem-reporter.ts'
import type { TaskServerLease } from './task-server-lease.ts'

/** Tasks that run for longer are checked, in ms. */
const CHECK_AFTER_MS = 1_000

/** Most tasks of one check. */
const MAX_TASKS_PER_CHECK = 1_000

/**
 * The store learns of a runner's tasks this long after the runner took them, in ms. Most have ended by then, and their outcome
 * names the runner as well.
 */
const CONFIRM_DELAY_MS = 500

/** Runners that are known to be in the store. Runners come and go for months. */
const MAX_CONNECTED_RUNNERS = 1_000

interface PendingConfirmation {
  readonly clientId: string
  readonly clientHost: string
  readonly tasks: readonly Task[]
  /** On the clock of `now()`. */
  readonly dueAt: number
}

export interface TaskReaperParts {
  readonly store: Store
  readonly claimed: ClaimedTasks
  readonly lease: Pick<TaskServerLease, 'id' | 'host'>
  readonly problems: ProblemReporter
}

export class TaskReaper {
  readonly #parts: TaskReaperParts
  readonly #connectedRunners = new Map<string, Promise<void>>()
  readonly #pendingConfirmations = new Fifo<PendingConfirmation>()
  #timer: Timer | undefined

  constructor(parts: TaskReaperParts) {
    this.#parts = parts
  }

  /** A runner has taken these tasks. The store learns of those that do not end soon. */
  scheduleConfirmation(clientId: string, clientHost: string, tasks: readonly Task[]): void {
    this.#connectRunner(clientId, clientHost).catch((error) =>
      this.#parts.problems.report(describeError(error)),
    )
    const dueAt = now() + CONFIRM_DELAY_MS
    this.#pendingConfirmations.push({ clientId, clientHost, tasks, dueAt })
    this.#timer ??= after(CONFIRM_DELAY_MS, this.#confirmDueTasks)
  }

  /** A runner is gone: the store gives back what it has and what was not taken from it yet. */
  disconnectRunner(id: string, isEvicted: boolean): void {
    const { store, problems } = this.#parts
    store
      .disconnectClient(id, { isEvicted })
      .catch((error) => problems.report(describeError(error)))
  }

  /** The server has a new id: its runners are to be connected again under that. */
  forgetRunners(): void {
    this.#connectedRunners.clear()
  }

  close(): void {
    this.#timer?.clear()
  }

  readonly #confirmDueTasks = (): void => {
    const at = now()
    let next = this.#pendingConfirmations.peek()
    for (; next && next.dueAt <= at; next = this.#pendingConfirmations.peek()) {
      this.#pendingConfirmations.shift()
      void this.#confirm(next)
    }
    this.#timer = next && after(next.dueAt - at, this.#confirmDueTasks)
  }

  /** Never rejects. */
  async #confirm({ clientId, clientHost, tasks }: PendingConfirmation): Promise<void> {
    const { store, claimed, problems } = this.#parts
    const running = tasks.filter(({ id, fence }) => claimed.findRunning(id)?.task.fence === fence)
    if (running.length === 0) return
    try {
      await this.#connectRunner(clientId, clientHost)
      const claims = running.map(({ id, fence }) => ({ id, fence }))
      const confirmed = new Set(await store.confirm(clientId, clientHost, claims))
      for (const task of running) {
        if (confirmed.has(task.id) || !claimed.findRunning(task.id)) continue
        // The store did not accept the claim. If the reason is that the task has just ended, nothing is to be done.
        const [found] = await store.find([task.id])
        if (found?.completionTime === null && found.fence === task.fence && found.serverId) continue
        claimed.findRunning(task.id)?.executor.cancel(task)
      }
    } catch (error) {
      problems.report(describeError(error))
    }
  }

  /**
   * Asks the store about tasks that run for long, and ends those that are not this server's any more. Never rejects.
   * @param minAgeMs tasks that run for less are left out
   */
  async checkRunning(minAgeMs = CHECK_AFTER_MS): Promise<void> {
    const { store, claimed, problems } = this.#parts
    const startedBefore = now() - minAgeMs
    const checked: RunningTask[] = []
    for (const one of claimed.listRunning()) {
      if (one.startedAt > startedBefore || checked.length >= MAX_TASKS_PER_CHECK) break
      checked.push(one)
    }
    if (checked.length === 0) return
    try {
      const rows = await store.find(checked.map(({ task }) => task.id))
      const byId = new Map(rows.map((row) => [row.id, row]))
      for (const { task, executor } of checked) {
        // If it has ended meanwhile, its outcome may still wait to be stored.
        if (!claimed.findRunning(task.id)) continue
        if (!this.#isOurs(task, byId.get(task.id))) executor.cancel(task)
      }
    } catch (error) {
      problems.report(describeError(error))
    }
  }

  #isOurs(task: Task, row: Task | undefined): boolean {
    const { id } = this.#parts.lease
    return row?.fence === task.fence && row.exitStatus === null && row.serverId === id
  }

  #connectRunner(id: string, host: string): Promise<void> {
    let connected = this.#connectedRunners.get(id)
    if (!connected) {
      const { store, lease } = this.#parts
      connected = store.connectClient({ id, host, serverId: lease.id, serverHost: lease.host })
      this.#connectedRunners.set(id, connected)
      if (this.#connectedRunners.size > MAX_CONNECTED_RUNNERS) {
        const [oldest] = this.#connectedRunners.keys()
        this.#connectedRunners.delete(oldest as string)
      }
    }
    return connected
  }
}

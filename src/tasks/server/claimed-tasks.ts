/** What a server has claimed and has no outcome of: who runs it, where it waits to go, or that nobody here runs it. */
import { now } from '../../core/time.ts'
import type { Task } from '../model/task.ts'
import type { TaskExecutor } from './executor.ts'

export interface RunningTask {
  readonly task: Task
  readonly executor: TaskExecutor
  readonly startedAt: number
}

export class ClaimedTasks {
  readonly #running = new Map<string, RunningTask>()
  readonly #waiting = new Map<TaskExecutor, Task[]>()
  #waitingCount = 0
  #returned: Task[] = []

  get size(): number {
    return this.#running.size + this.#waitingCount + this.#returned.length
  }

  /** With somebody. */
  get runningCount(): number {
    return this.#running.size
  }

  /** With somebody, the longest first. */
  listRunning(): Iterable<RunningTask> {
    return this.#running.values()
  }

  findRunning(id: string): RunningTask | undefined {
    return this.#running.get(id)
  }

  /** Tasks that wait until this one has room. */
  countWaiting(carrier: TaskExecutor): number {
    return this.#waiting.get(carrier)?.length ?? 0
  }

  addWaiting(task: Task, carrier: TaskExecutor): void {
    const waiting = this.#waiting.get(carrier)
    if (waiting) waiting.push(task)
    else this.#waiting.set(carrier, [task])
    this.#waitingCount++
  }

  addRunning(task: Task, carrier: TaskExecutor, since = now()): void {
    this.#running.set(task.id, { task, executor: carrier, startedAt: since })
  }

  /** Hands what waits to those who have room. */
  dispatchWaiting(): void {
    for (const [carrier, waiting] of this.#waiting) {
      while (waiting.length > 0) {
        const tasks = waiting.splice(0, carrier.availableCapacity())
        if (tasks.length === 0) break
        this.#waitingCount -= tasks.length
        const since = now()
        for (const task of tasks) this.addRunning(task, carrier, since)
        carrier.execute(tasks)
      }
      if (waiting.length === 0) this.#waiting.delete(carrier)
    }
  }

  /** What waits, to be given back. */
  clearWaiting(): Task[] {
    const tasks = [...this.#waiting.values()].flat()
    this.#waiting.clear()
    this.#waitingCount = 0
    return tasks
  }

  /** Nobody is to run them here: the store is to have them back. */
  markReturned(tasks: readonly Task[]): void {
    for (const task of tasks) {
      this.removeRunning(task.id, task.fence)
      this.#returned.push(task)
    }
  }

  /** What the store is to have back. */
  listReturned(): readonly Task[] {
    return this.#returned.slice()
  }

  /** The store has them, the first of what was returned. */
  removeReturned(tasks: readonly Task[]): void {
    this.#returned.splice(0, tasks.length)
  }

  removeRunning(id: string, fence: number): void {
    if (this.#running.get(id)?.task.fence === fence) this.#running.delete(id)
  }
}

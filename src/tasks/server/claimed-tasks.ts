/**
 * The tasks that a server has claimed and that have no outcome yet. Each is in one of three states: it runs at an executor, it
 * waits until its executor has capacity, or it was returned and goes back to the store.
 */
import { now } from '../../core/time.ts'
import type { Task } from '../model/task.ts'
import type { TaskExecutor } from './executor.ts'

export interface RunningTask {
  readonly task: Task
  readonly executor: TaskExecutor
  /** On the clock of `now()`. */
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

  get runningCount(): number {
    return this.#running.size
  }

  /** In the order in which they were started. */
  listRunning(): Iterable<RunningTask> {
    return this.#running.values()
  }

  findRunning(id: string): RunningTask | undefined {
    return this.#running.get(id)
  }

  /** Tasks that wait until this executor has capacity. */
  countWaiting(executor: TaskExecutor): number {
    return this.#waiting.get(executor)?.length ?? 0
  }

  addWaiting(task: Task, executor: TaskExecutor): void {
    const waiting = this.#waiting.get(executor)
    if (waiting) waiting.push(task)
    else this.#waiting.set(executor, [task])
    this.#waitingCount++
  }

  addRunning(task: Task, executor: TaskExecutor, startedAt = now()): void {
    this.#running.set(task.id, { task, executor, startedAt })
  }

  /** Gives waiting tasks to the executors that have capacity. */
  dispatchWaiting(): void {
    for (const [executor, waiting] of this.#waiting) {
      while (waiting.length > 0) {
        const tasks = waiting.splice(0, executor.availableCapacity())
        if (tasks.length === 0) break
        this.#waitingCount -= tasks.length
        const startedAt = now()
        for (const task of tasks) this.addRunning(task, executor, startedAt)
        executor.execute(tasks)
      }
      if (waiting.length === 0) this.#waiting.delete(executor)
    }
  }

  /** Takes out all that waits. */
  clearWaiting(): Task[] {
    const tasks = [...this.#waiting.values()].flat()
    this.#waiting.clear()
    this.#waitingCount = 0
    return tasks
  }

  /** These are not run here after all: the store is to have them back. */
  markReturned(tasks: readonly Task[]): void {
    for (const task of tasks) {
      this.removeRunning(task.id, task.fence)
      this.#returned.push(task)
    }
  }

  /** Tasks that the store is to have back, in the order in which they were returned. */
  listReturned(): readonly Task[] {
    return this.#returned.slice()
  }

  /** The store has these back: the first of those that were returned. */
  removeReturned(tasks: readonly Task[]): void {
    this.#returned.splice(0, tasks.length)
  }

  removeRunning(id: string, fence: number): void {
    if (this.#running.get(id)?.task.fence === fence) this.#running.delete(id)
  }
}

/** What a server has claimed and has no outcome of: who runs it, where it waits to go, or that nobody here runs it. */
import { now } from '../../core/time.ts'
import type { Task } from '../task.ts'
import type { Carrier } from './carrier.ts'

export interface Running {
  readonly task: Task
  readonly carrier: Carrier
  readonly since: number
}

export class Held {
  readonly #running = new Map<string, Running>()
  readonly #waiting = new Map<Carrier, Task[]>()
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
  running(): Iterable<Running> {
    return this.#running.values()
  }

  runs(id: string): Running | undefined {
    return this.#running.get(id)
  }

  /** Tasks that wait until this one has room. */
  waitingFor(carrier: Carrier): number {
    return this.#waiting.get(carrier)?.length ?? 0
  }

  wait(task: Task, carrier: Carrier): void {
    const waiting = this.#waiting.get(carrier)
    if (waiting) waiting.push(task)
    else this.#waiting.set(carrier, [task])
    this.#waitingCount++
  }

  run(task: Task, carrier: Carrier, since = now()): void {
    this.#running.set(task.id, { task, carrier, since })
  }

  /** Hands what waits to those who have room. */
  deliver(): void {
    for (const [carrier, waiting] of this.#waiting) {
      while (waiting.length > 0) {
        const tasks = waiting.splice(0, carrier.room())
        if (tasks.length === 0) break
        this.#waitingCount -= tasks.length
        const since = now()
        for (const task of tasks) this.run(task, carrier, since)
        carrier.take(tasks)
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
  giveBack(tasks: readonly Task[]): void {
    for (const task of tasks) {
      this.forget(task.id, task.fence)
      this.#returned.push(task)
    }
  }

  /** What the store is to have back. */
  returned(): readonly Task[] {
    return this.#returned.slice()
  }

  /** The store has them, the first of what was returned. */
  released(tasks: readonly Task[]): void {
    this.#returned.splice(0, tasks.length)
  }

  forget(id: string, fence: number): void {
    if (this.#running.get(id)?.task.fence === fence) this.#running.delete(id)
  }
}

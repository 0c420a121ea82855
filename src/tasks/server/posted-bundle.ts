/** A POST of tasks to a runner that is under way. */
import type { Task } from '../model/task.ts'

export class PostedBundle {
  /** In the order of the POST: answers name tasks by their index. */
  readonly tasks: readonly Task[]
  /** Tasks that have no outcome yet. */
  readonly pendingTasks: Map<string, Task>
  /** Whether it is a task alone that lost its runners before. */
  readonly isSuspect: boolean
  readonly controller = new AbortController()
  /** The runner's instance; undefined before it has answered. */
  instanceId: string | undefined

  constructor(tasks: readonly Task[], isSuspect: boolean) {
    this.tasks = tasks
    this.isSuspect = isSuspect
    this.pendingTasks = new Map(tasks.map((task) => [task.id, task]))
  }

  has({ id, fence }: Task): boolean {
    return this.pendingTasks.get(id)?.fence === fence
  }
}

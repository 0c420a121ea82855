/** The interface between a task server and what runs its tasks: `TaskExecutor`s take tasks, a `TaskSink` hears of them. */

import type { Task, TaskKind, TaskOutcome } from '../model/task.ts'
import type { OutputStream } from '../runner/protocol.ts'

export interface TaskExecutor {
  /** The kind of tasks that it takes. */
  readonly kind: TaskKind
  /** How many tasks it would take now. */
  availableCapacity(): number
  /** Takes the tasks. The sink hears of each one exactly once: `taskSettled` or `taskReturned`. */
  execute(tasks: readonly Task[]): void
  /** Ends a task that runs. Its outcome is of no interest any more. */
  cancel(task: Task): void
  /** Ends all that runs. The sink gets each task back. */
  stop(): void
}

export interface TaskSink {
  taskSettled(task: Task, outcome: TaskOutcome, message: string | undefined): void
  /** The task was never started, or its end is unknown: it is to be run again. */
  taskReturned(task: Task): void
  taskOutput(task: Task, stream: OutputStream, chunk: Uint8Array): Promise<void>
  /** A runner has taken these tasks. */
  tasksConfirmed(clientId: string, clientHost: string, tasks: readonly Task[]): void
  /** An executor may have capacity again. */
  capacityChanged(): void
  /** Shell tasks need runners. @throws ManyhostError where these cannot be started */
  runnersNeeded(): void
  /** No task of this kind can ever run. */
  fail(error: Error): void
}

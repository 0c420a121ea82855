/** What carries claimed tasks to where they run, and what it says of them. */

import type { Task, TaskKind, TaskOutcome } from '../model/task.ts'
import type { OutputStream } from '../runner/protocol.ts'

export interface TaskExecutor {
  /** Of the tasks that it takes. */
  readonly kind: TaskKind
  /** Tasks that it would take now. */
  availableCapacity(): number
  /** Takes them; says of each one, once, what became of it. */
  execute(tasks: readonly Task[]): void
  /** Ends one that runs; its outcome is nobody's business any more. */
  cancel(task: Task): void
  /** Ends all that runs: each is given back. */
  stop(): void
}

export interface TaskSink {
  taskSettled(task: Task, outcome: TaskOutcome, message: string | undefined): void
  /** It was never started, or its end is unknown: somebody else is to run it. */
  taskReturned(task: Task): void
  taskOutput(task: Task, stream: OutputStream, chunk: Uint8Array): Promise<void>
  /** Who has taken these. */
  tasksConfirmed(clientId: string, clientHost: string, tasks: readonly Task[]): void
  /** There may be room again. */
  capacityChanged(): void
  reportProblem(message: string): void
  /** Nothing of this kind will ever run. */
  fail(error: Error): void
}

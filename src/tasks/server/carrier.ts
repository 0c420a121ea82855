/** What carries claimed tasks to where they run, and what it says of them. */
import type { OutputStream } from '../runner/protocol.ts'
import type { Task, TaskKind, TaskOutcome } from '../task.ts'

export interface Carrier {
  /** Of the tasks that it takes. */
  readonly kind: TaskKind
  /** Tasks that it would take now. */
  room(): number
  /** Takes them; says of each one, once, what became of it. */
  take(tasks: readonly Task[]): void
  /** Ends one that runs; its outcome is nobody's business any more. */
  cancel(task: Task): void
  /** Ends all that runs: each is given back. */
  stop(): void
}

export interface Desk {
  settled(task: Task, outcome: TaskOutcome, message: string | undefined): void
  /** It was never started, or its end is unknown: somebody else is to run it. */
  returned(task: Task): void
  output(task: Task, stream: OutputStream, chunk: Uint8Array): Promise<void>
  /** Who has taken these. */
  confirmed(clientId: string, clientHost: string, tasks: readonly Task[]): void
  /** There may be room again. */
  moved(): void
  problem(message: string): void
  /** Nothing of this kind will ever run. */
  failed(error: Error): void
}

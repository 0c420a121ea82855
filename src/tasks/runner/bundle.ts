/** Tasks that one POST handed in together, and whose outcomes go back in one answer. */
import { now } from '../../core/time.ts'
import { GroupUsage } from '../../posix/group-usage.ts'
import { createUnstartedOutcome, EXIT_CANCELLED, EXIT_NO_RESOURCES } from '../model/exit-status.ts'
import type { OutputStream, RunOutcome, RunTask } from './protocol.ts'
import type { RunnerSlot } from './runner-slot.ts'
import { type AttemptConditions, type AttemptOutput, TaskAttempt } from './task-attempt.ts'

/** The client that handed a bundle in: it hears what becomes of each task. */
export interface BundleListener {
  /** Answers false when it wants no more output until `Bundle.resume`. */
  onOutput(index: number, stream: OutputStream, chunk: Buffer): boolean
  onOutcome(outcome: RunOutcome): void
  /** The task was not started, and will not be here. */
  onReturned(task: RunTask): void
  /** The bundle has ended, and each of its tasks was reported. */
  onDone(): void
}

/** One task of a bundle. */
export interface BundleEntry {
  readonly attempt: TaskAttempt
  readonly bundle: Bundle
  /** Where it runs; undefined: it does not run. */
  slot: RunnerSlot | undefined
  /** On the clock of `now()`; 0: it was not started yet. */
  startedAt: number
}

/** The runner, as its bundles see it. */
export interface BundleOwner {
  /** Queues a task. */
  add(entry: BundleEntry): void
  /** Takes a waiting task out of the queue; false: it does not wait. */
  removeWaiting(entry: BundleEntry): boolean
  bundleClosed(bundle: Bundle): void
}

export class Bundle {
  readonly #conditions: AttemptConditions
  readonly #listener: BundleListener
  readonly #owner: BundleOwner
  /** Tasks that have no outcome yet, by id. */
  readonly #entries = new Map<string, BundleEntry>()
  #lineCount = 0
  #state: 'open' | 'ended' | 'cancelled' | 'closed' = 'open'

  constructor(conditions: AttemptConditions, listener: BundleListener, owner: BundleOwner) {
    this.#conditions = conditions
    this.#listener = listener
    this.#owner = owner
  }

  /** Tasks that have no outcome yet. */
  get size(): number {
    return this.#entries.size
  }

  add(task: RunTask): void {
    const index = this.#lineCount++
    if (this.#state !== 'open') return
    if (this.#entries.has(task.id)) {
      const message = 'the same task stands twice in the bundle'
      return this.#listener.onOutcome(this.#unstarted(task, EXIT_NO_RESOURCES, message))
    }
    const output: AttemptOutput = (stream, chunk) => this.#listener.onOutput(index, stream, chunk)
    const attempt = new TaskAttempt(task, this.#conditions, output, now())
    if (attempt.usage) attempt.writeUsageSample(GroupUsage.CSV_HEADER)
    const entry: BundleEntry = { attempt, bundle: this, slot: undefined, startedAt: 0 }
    this.#entries.set(task.id, entry)
    this.#owner.add(entry)
  }

  /** Counts a line that is no task, for tasks are named by the index of their line. Answers the index. */
  skipLine(): number {
    return this.#lineCount++
  }

  /** No more tasks will come. */
  end(): void {
    if (this.#state === 'open') this.#state = 'ended'
    this.#closeIfDone()
  }

  /** The client is gone: nothing more is started, and what runs is interrupted. */
  cancel(): void {
    if (this.#state === 'closed') return
    this.#state = 'cancelled'
    for (const entry of [...this.#entries.values()]) {
      if (this.#owner.removeWaiting(entry)) this.#entries.delete(entry.attempt.task.id)
      else entry.attempt.interrupt('cancelled')
    }
    this.#closeIfDone()
  }

  /** Cancels one task, waiting or running; false when it is not here. */
  cancelTask(id: string, fence?: number): boolean {
    const entry = this.#entries.get(id)
    if (!entry || (fence !== undefined && entry.attempt.task.fence !== fence)) return false
    if (this.#owner.removeWaiting(entry)) {
      this.settleUnstarted(entry, EXIT_CANCELLED, 'cancelled before it ran')
    } else {
      entry.attempt.interrupt('cancelled')
    }
    return true
  }

  /** The client takes output again. */
  resume(): void {
    for (const { slot } of this.#entries.values()) slot?.resume()
  }

  settle(entry: BundleEntry, outcome: RunOutcome): void {
    if (!this.#entries.delete(entry.attempt.task.id)) return
    if (this.#state !== 'cancelled') this.#listener.onOutcome(outcome)
    this.#closeIfDone()
  }

  /** The task has its outcome without having run. */
  settleUnstarted(entry: BundleEntry, exitStatus: number, message: string): void {
    this.settle(entry, this.#unstarted(entry.attempt.task, exitStatus, message))
  }

  /** The task is to be run elsewhere. */
  returnTask(entry: BundleEntry): void {
    if (!this.#entries.delete(entry.attempt.task.id)) return
    if (this.#state !== 'cancelled') this.#listener.onReturned(entry.attempt.task)
    this.#closeIfDone()
  }

  #unstarted(task: RunTask, exitStatus: number, message: string): RunOutcome {
    return { ...createUnstartedOutcome(task, exitStatus, this.#conditions), message }
  }

  #closeIfDone(): void {
    if (this.#state === 'open' || this.#state === 'closed' || this.#entries.size > 0) return
    this.#state = 'closed'
    this.#listener.onDone()
    this.#owner.bundleClosed(this)
  }
}

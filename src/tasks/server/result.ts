/** Results of tasks, as users get them: one by one and counted. */
import { dirname, join, resolve } from 'node:path'
import type { TaskEvent } from '../../core/events.ts'
import { wallClock } from '../../core/time.ts'
import { EXIT_CANCELLED } from '../model/exit-status.ts'
import type { Task, TaskOutcome } from '../model/task.ts'
import type { TaskGroupTurn } from '../store/counts.ts'
import type { Store } from '../store/store.ts'

/** A task as it ended. */
export interface TaskResult extends Task {
  readonly exitStatus: number
  /** It failed and will be tried again. The row that the store has of it names the next attempt in `nextId`. */
  readonly willRetry: boolean
  /** Why it ended so, for people, if the exit status does not say it: `timeout after 30000 ms`. */
  readonly message?: string
}

/** An attempt at a task that has ended. */
export interface CompletedAttempt {
  readonly task: Task
  readonly outcome: TaskOutcome
  readonly message: string | undefined
}

export interface TaskCounts {
  /** Read from the source. */
  readonly submitted: number
  readonly succeeded: number
  /** Failed, with no attempt left. */
  readonly failed: number
  readonly cancelled: number
  /** Attempts that failed and were followed by another. */
  readonly retried: number
  /** Outcomes that came too late: another server had got the task. */
  readonly refused: number
}

/** Where captured outputs go: beside a SQLite file, in the working directory for PostgreSQL, nowhere for a store in memory. */
export function defaultOutputsFolder(store: Store): string | undefined {
  if (store.kind !== 'sqlite') return resolve('manyhost-outputs')
  return store.name === ':memory:' ? undefined : join(dirname(resolve(store.name)), 'outputs')
}

export function describeBlockedGroup({
  group,
  failedForGood,
}: TaskGroupTurn & { is: 'blocked' }): string {
  return `${failedForGood} tasks of group ${group} failed for good, so tasks of later groups are held back; see them by manyhost tasks list -F -g ${group}, then update --revert or --delete them`
}

/** The state that an attempt is counted under. */
export function classifyOutcome({
  exitStatus,
  willRetry,
}: Pick<TaskResult, 'exitStatus' | 'willRetry'>): TaskEvent['outcome'] {
  if (exitStatus === 0) return 'succeeded'
  if (exitStatus === EXIT_CANCELLED) return 'cancelled'
  return willRetry ? 'retried' : 'failed'
}

/** The event by which the session reports it. */
export function toTaskEvent(result: TaskResult): TaskEvent {
  const { id, attempt, group, exitStatus, duration } = result
  const outcome = classifyOutcome(result)
  return { task: id, attempt, group, outcome, exitStatus, duration, at: wallClock() }
}

/** The result of a task that was cancelled before it ended by itself. */
export function toCancelledResult(task: Task): TaskResult {
  const completionTime = task.completionTime ?? wallClock()
  return {
    ...task,
    exitStatus: EXIT_CANCELLED,
    completionTime,
    willRetry: false,
    message: 'the task was cancelled',
  }
}

export function toTaskResult(
  task: Task,
  outcome: TaskOutcome,
  willRetry: boolean,
  message: string | undefined,
): TaskResult {
  const { startTime, completionTime } = outcome
  // Field by field: a spread of so many fields costs thirty times as much, and this runs for each task.
  const result: TaskResult = {
    id: task.id,
    group: task.group,
    args: task.args,
    submitId: task.submitId,
    submitTime: task.submitTime,
    submitHost: task.submitHost,
    cores: task.cores,
    memory: task.memory,
    coresMax: outcome.coresMax ?? null,
    memoryMax: outcome.memoryMax ?? null,
    timeout: task.timeout,
    serverId: task.serverId,
    serverHost: task.serverHost,
    scheduleTime: task.scheduleTime,
    clientId: outcome.clientId,
    clientHost: outcome.clientHost,
    command: outcome.command,
    startTime,
    completionTime,
    exitStatus: outcome.exitStatus,
    outpath: outcome.outpath ?? null,
    errpath: outcome.errpath ?? null,
    csvpath: outcome.csvpath ?? null,
    attempt: task.attempt,
    retried: task.retried,
    waited: startTime === null ? null : startTime - task.submitTime,
    duration: startTime === null ? null : completionTime - startTime,
    previousId: task.previousId,
    nextId: task.nextId,
    tag: task.tag,
    request: task.request,
    fence: task.fence,
    batch: task.batch,
    cwd: task.cwd,
    template: task.template,
    shell: task.shell,
    env: task.env,
    attempts: task.attempts,
    captured: outcome.captured ?? false,
    willRetry,
  }
  return message === undefined ? result : { ...result, message }
}

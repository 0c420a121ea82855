/** What a server says of tasks: their ends, counted and one by one. */
import { dirname, join, resolve } from 'node:path'
import type { TaskEvent } from '../../core/events.ts'
import { wallClock } from '../../core/time.ts'
import type { Task, TaskOutcome } from '../model/task.ts'
import type { TaskGroupTurn } from '../store/counts.ts'
import type { Store } from '../store/store.ts'

/** A task as it ended. */
export interface TaskResult extends Task {
  readonly exitStatus: number
  /** It failed, and will be tried again: `nextId` will tell. */
  readonly willRetry: boolean
  /** For people, where there is something to say: `timeout after 30000 ms`. */
  readonly message?: string
}

/** A task, and what running it came to; not kept yet. */
export interface CompletedAttempt {
  readonly task: Task
  readonly outcome: TaskOutcome
  readonly message: string | undefined
}

export interface TaskCounts {
  /** Read from the source. */
  readonly submitted: number
  readonly succeeded: number
  /** For good: no attempt is left. */
  readonly failed: number
  readonly cancelled: number
  /** Failed, and tried again. */
  readonly retried: number
  /** Outcomes that came too late: somebody else had, or has, the task. */
  readonly refused: number
}

/** Beside the store; of one in memory or on another machine: in the working directory. */
export function defaultOutputsFolder(store: Store): string | undefined {
  if (store.kind !== 'sqlite') return resolve('manyhost-outputs')
  return store.name === ':memory:' ? undefined : join(dirname(resolve(store.name)), 'outputs')
}

export function describeBlockedGroup({
  group,
  failedForGood,
}: TaskGroupTurn & { is: 'blocked' }): string {
  return `${failedForGood} tasks of group ${group} failed for good, and those of later groups are held back (manyhost tasks list -F -g ${group}; update --revert or --delete them)`
}

export function noServiceOutcome({ id, fence }: Task): TaskOutcome {
  const completionTime = wallClock()
  const nobody = { command: null, clientId: null, clientHost: null, startTime: null }
  return { id, fence, exitStatus: 404, ...nobody, completionTime }
}

/** What an attempt at a task came to. */
export function classifyOutcome({
  exitStatus,
  willRetry,
}: Pick<TaskResult, 'exitStatus' | 'willRetry'>): TaskEvent['outcome'] {
  if (exitStatus === 0) return 'succeeded'
  if (exitStatus === -1) return 'cancelled'
  return willRetry ? 'retried' : 'failed'
}

/** What the session says of it. */
export function toTaskEvent(result: TaskResult): TaskEvent {
  const { id, attempt, group, exitStatus, duration } = result
  const outcome = classifyOutcome(result)
  return { task: id, attempt, group, outcome, exitStatus, duration, at: wallClock() }
}

/** A task that somebody cancelled. */
export function toCancelledResult(task: Task): TaskResult {
  const completionTime = task.completionTime ?? wallClock()
  return { ...task, exitStatus: -1, completionTime, willRetry: false, message: 'it was cancelled' }
}

export function toTaskResult(
  task: Task,
  outcome: TaskOutcome,
  willRetry: boolean,
  message: string | undefined,
): TaskResult {
  const { startTime, completionTime } = outcome
  // Written out, as in the store's `kept`: spreads of so many fields cost thirty times as much.
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

/** Exit statuses of tasks: what those mean that no command gives. docs/tasks-work.md has them for users. */
import { wallClock } from '../../core/time.ts'
import type { Task, TaskOutcome } from './task.ts'

/** Somebody cancelled the task. -2, a template that does not fit its line, is `TEMPLATE_FAILED` of text/template.ts. */
export const EXIT_CANCELLED = -1

/** The task wants more than a runner has, or could not be started. */
export const EXIT_NO_RESOURCES = -3

/** The time of the task was over and it then ended with 0: the status that timeout(1) gives. */
export const EXIT_TIMED_OUT = 124

/** The folder of the task cannot be entered: the status that a shell gives for a command that it does not find. */
export const EXIT_NOT_FOUND = 127

/** The runner was lost each time that it had the task: as if the kernel had killed it (128 + 9). */
export const EXIT_RUNNER_LOST = 137

/** A request whose URL belongs to no service. */
export const EXIT_NO_SERVICE = 404

/** A request that no instance answered, and whose error has no status of its own. */
export const EXIT_NO_RESPONSE = 502

/** The status of a process that a signal ended, as shells give it. */
export function exitStatusOfSignal(signal: number): number {
  return 128 + signal
}

/** Statuses of a request task: an answer below 400 is a success. */
export function exitStatusOfResponse(status: number): number {
  return status < 400 ? 0 : status
}

/** Whether the attempt failed, so that the task may be tried again. A task that was cancelled is not. */
export function isFailure(exitStatus: number): boolean {
  return exitStatus !== 0 && exitStatus !== EXIT_CANCELLED
}

/** The runner that refused a task, or nobody. */
const NO_RUNNER = { clientId: null, clientHost: null }

/** The outcome of a task that was never started. */
export function createUnstartedOutcome(
  { id, fence }: Pick<Task, 'id' | 'fence'>,
  exitStatus: number,
  { clientId, clientHost }: Pick<TaskOutcome, 'clientId' | 'clientHost'> = NO_RUNNER,
): TaskOutcome {
  const completionTime = wallClock()
  return {
    id,
    fence,
    exitStatus,
    command: null,
    clientId,
    clientHost,
    startTime: null,
    completionTime,
  }
}

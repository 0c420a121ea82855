/** What exit statuses mean, and which of several timeouts holds. */
import { expect, it } from 'vitest'
import {
  createUnstartedOutcome,
  EXIT_CANCELLED,
  EXIT_RUNNER_LOST,
  exitStatusOfResponse,
  exitStatusOfSignal,
  isFailure,
} from '../../../src/tasks/model/exit-status.ts'
import { shorterTimeout } from '../../../src/tasks/model/timeouts.ts'

it('a task failed if its status is neither 0 nor that of a cancelled task', () => {
  expect([0, EXIT_CANCELLED].map(isFailure)).toEqual([false, false])
  expect([1, -2, -3, 124, 404].map(isFailure)).toEqual([true, true, true, true, true])
})

it('a lost runner counts as a kill, and an answer below 400 as a success', () => {
  expect(exitStatusOfSignal(9)).toBe(EXIT_RUNNER_LOST)
  expect([200, 399, 400, 503].map(exitStatusOfResponse)).toEqual([0, 0, 400, 503])
})

it('the outcome of a task that was not started has no start, and names the runner that refused it', () => {
  const task = { id: 'a', fence: 3 }
  expect(createUnstartedOutcome(task, -3)).toMatchObject({
    ...task,
    exitStatus: -3,
    command: null,
    clientId: null,
    startTime: null,
  })
  const runner = { clientId: 'r', clientHost: 'h' }
  expect(createUnstartedOutcome(task, -3, runner)).toMatchObject(runner)
})

it('the shorter timeout holds, and 0 is unlimited', () => {
  expect(shorterTimeout(5, 3)).toBe(3)
  expect([shorterTimeout(0, 3), shorterTimeout(5, 0), shorterTimeout(0, 0)]).toEqual([3, 5, 0])
})

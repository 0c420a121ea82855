/** For which kinds a server claims, and how many tasks: decided by the capacity of executors and by what waits. */
import { expect, it } from 'vitest'
import { now } from '../../../src/core/time.ts'
import type { Task, TaskKind } from '../../../src/tasks/model/task.ts'
import { type ClaimRequest, ClaimScheduler } from '../../../src/tasks/server/claim-scheduler.ts'
import { ClaimedTasks } from '../../../src/tasks/server/claimed-tasks.ts'
import type { TaskExecutor } from '../../../src/tasks/server/executor.ts'
import { useFalseClock } from '../../clock.ts'

const BUNDLE = 10

/** An executor whose capacity a test sets. */
type FakeExecutor = TaskExecutor & { capacity: number }

function executor(kind: TaskKind, capacity: number): FakeExecutor {
  const none = (): void => undefined
  const own: FakeExecutor = {
    kind,
    capacity,
    availableCapacity: () => own.capacity,
    execute: none,
    cancel: none,
    stop: none,
  }
  return own
}

let count = 0
const taskOf = (): Task => ({ id: `${++count}`, fence: 1 }) as Task

/** A scheduler for these executors. `claim` says who takes the tasks of a claim, one task each. */
function schedule(...executors: FakeExecutor[]) {
  const clock = useFalseClock()
  const claimed = new ClaimedTasks()
  const scheduler = new ClaimScheduler(BUNDLE)
  const plan = () => scheduler.planClaims(executors, claimed, 0)
  const claims = (): readonly ClaimRequest[] => plan().claims
  const claim = (request: ClaimRequest, ...takers: FakeExecutor[]): void => {
    scheduler.beginClaim(request)
    scheduler.recordClaim(request, takers.length, new Set(takers), executors)
  }
  return { clock, claimed, scheduler, plan, claims, claim }
}

it('claims both kinds together while each has capacity, as much as the larger one', () => {
  const { claims } = schedule(executor('shell', 3), executor('request', 0), executor('request', 7))
  expect(claims()).toEqual([{ limit: 7 }])
})

it('claims one kind alone while the other is full, and nothing while both are', () => {
  const [shell, request] = [executor('shell', 0), executor('request', 4)]
  const { claims } = schedule(shell, request)
  expect(claims()).toEqual([{ kind: 'request', limit: 4 }])
  Object.assign(shell, { capacity: 2 })
  Object.assign(request, { capacity: 0 })
  expect(claims()).toEqual([{ kind: 'shell', limit: 2 }])
  Object.assign(shell, { capacity: 0 })
  expect(claims()).toEqual([])
})

it('claims tasks of a kind without an executor in their turn, however many come', () => {
  const [shell, nobody] = [executor('shell', 3), executor('request', 0)]
  const { claimed, claims, claim } = schedule(shell)
  claimed.addRunning(taskOf(), shell)
  expect(claims()).toEqual([{ limit: 3 }])
  claim({ limit: 3 }, nobody, nobody, nobody)
  expect(claims()).toEqual([{ limit: 3 }])
})

it('claims each kind alone while tasks of one wait, and none of that kind while a bundle waits', () => {
  const [shell, full, idle] = [executor('shell', 2), executor('request', 0), executor('request', 4)]
  const { claimed, claims } = schedule(shell, full, idle)
  claimed.addWaiting(taskOf(), full)
  const alone = { kind: 'shell', limit: 2 }
  expect(claims()).toEqual([alone, { kind: 'request', limit: 4 }])
  while (claimed.countWaiting(full) < BUNDLE) claimed.addWaiting(taskOf(), full)
  expect(claims()).toEqual([alone])
})

it('claims a kind behind all of the other alone, more and more rarely while none of it is found', async () => {
  const [shell, request] = [executor('shell', 1), executor('request', 2)]
  const { clock, claimed, scheduler, plan, claims, claim } = schedule(shell, request)
  claimed.addRunning(taskOf(), request)
  claim({ limit: 2 }, request, request)
  const waits: number[] = []
  for (let look = 0; look < 6; look++) {
    const { claims: others, retryAt = 0 } = plan()
    expect(others).toEqual([{ kind: 'request', limit: 2 }])
    const waitMs = retryAt - now()
    waits.push(waitMs)
    await clock.pass(waitMs - 1)
    expect(claims()).toEqual([{ kind: 'request', limit: 2 }])
    await clock.pass(1)
    // Some task has ended meanwhile.
    scheduler.expectNewTasks()
    expect(claims()[0]).toEqual({ kind: 'shell', limit: 1 })
    claim({ kind: 'shell', limit: 1 })
  }
  expect(waits).toEqual([20, 40, 80, 160, 250, 250])
  await clock.pass(250)
  scheduler.expectNewTasks()
  claim({ kind: 'shell', limit: 1 }, shell)
  expect(claims()).toEqual([{ limit: 2 }])
})

it('does not claim a kind again that gave nothing until something happens, and goes on with the other', () => {
  const [shell, request] = [executor('shell', 1), executor('request', 0)]
  const { scheduler, claims, claim } = schedule(shell, request)
  claim({ kind: 'shell', limit: 1 })
  expect(claims()).toEqual([])
  expect(scheduler.hasNothingToClaim).toBe(false)
  Object.assign(request, { capacity: 2 })
  Object.assign(shell, { capacity: 0 })
  expect(claims()).toEqual([{ kind: 'request', limit: 2 }])
  claim({ kind: 'request', limit: 2 })
  expect(scheduler.hasNothingToClaim).toBe(true)
  scheduler.expectNewTasks()
  expect(scheduler.hasNothingToClaim).toBe(false)
  expect(claims()).toEqual([{ kind: 'request', limit: 2 }])
})

/** For which kinds a server claims, and how much: decided from who has room and what waits. */
import { expect, it } from 'vitest'
import type { Task, TaskKind } from '../../../src/tasks/model/task.ts'
import { type ClaimRequest, ClaimScheduler } from '../../../src/tasks/server/claim-scheduler.ts'
import { ClaimedTasks } from '../../../src/tasks/server/claimed-tasks.ts'
import type { TaskExecutor } from '../../../src/tasks/server/executor.ts'
import type { Store } from '../../../src/tasks/store/store.ts'
import { useFalseClock } from '../../clock.ts'

const BUNDLE = 10

type Way = TaskExecutor & { places: number }

function way(kind: TaskKind, places: number): Way {
  const none = (): void => undefined
  const own: Way = {
    kind,
    places,
    availableCapacity: () => own.places,
    execute: none,
    cancel: none,
    stop: none,
  }
  return own
}

let count = 0
const taskOf = (): Task => ({ id: `${++count}`, fence: 1 }) as Task

/** A server, of which `found` says what its claims bring: of the ways it names, one task each. */
function server(...ways: Way[]) {
  const clock = useFalseClock()
  const held = new ClaimedTasks()
  let found: (Way | undefined)[] = []
  const store = { claim: async () => found.map(taskOf) } as unknown as Store
  let looks = 0
  const parts = { store, bundleSize: BUNDLE, retry: () => looks++, reportProblem: () => undefined }
  const claiming = new ClaimScheduler(parts)
  const asks = (): ClaimRequest[] => claiming.planClaims(ways, held, 0)
  const claim = async (ask: ClaimRequest, ...bringing: Way[]): Promise<void> => {
    found = bringing
    const tasks = await claiming.claim({ ...ask, server: 's' })
    claiming.recordClaim(ask, tasks.length, new Set(bringing), ways)
  }
  return { clock, held, claiming, asks, claim, looks: () => looks }
}

it('claims both kinds at once while each has room, as much as the one that has most', () => {
  const { asks } = server(way('shell', 3), way('request', 0), way('request', 7))
  expect(asks()).toEqual([{ limit: 7 }])
})

it('claims one kind alone while the other is full, and nothing while both are', () => {
  const [shell, request] = [way('shell', 0), way('request', 4)]
  const { asks } = server(shell, request)
  expect(asks()).toEqual([{ kind: 'request', limit: 4 }])
  Object.assign(shell, { places: 2 })
  Object.assign(request, { places: 0 })
  expect(asks()).toEqual([{ kind: 'shell', limit: 2 }])
  Object.assign(shell, { places: 0 })
  expect(asks()).toEqual([])
})

it('claims along what nobody here carries, however much of it comes', async () => {
  const [shell, nobody] = [way('shell', 3), way('request', 0)]
  const { held, asks, claim } = server(shell)
  held.addRunning(taskOf(), shell)
  expect(asks()).toEqual([{ limit: 3 }])
  await claim({ limit: 3 }, nobody, nobody, nobody)
  expect(asks()).toEqual([{ limit: 3 }])
})

it('claims each kind for itself while some of one wait, and none of that one while a bundle does', () => {
  const [shell, full, idle] = [way('shell', 2), way('request', 0), way('request', 4)]
  const { held, asks } = server(shell, full, idle)
  held.addWaiting(taskOf(), full)
  const alone = { kind: 'shell', limit: 2 }
  expect(asks()).toEqual([alone, { kind: 'request', limit: 4 }])
  while (held.countWaiting(full) < BUNDLE) held.addWaiting(taskOf(), full)
  expect(asks()).toEqual([alone])
})

it('looks for a kind behind all of the other, rarer and rarer while none of it is found', async () => {
  const [shell, request] = [way('shell', 1), way('request', 2)]
  const { clock, held, claiming, asks, claim, looks } = server(shell, request)
  held.addRunning(taskOf(), request)
  await claim({ limit: 2 }, request, request)
  const waits: number[] = []
  for (let look = 0; look < 6; look++) {
    expect(asks()).toEqual([{ kind: 'request', limit: 2 }])
    const before = looks()
    let waited = 0
    for (; looks() === before; waited += 10) await clock.pass(10)
    waits.push(waited)
    // Whatever ends meanwhile.
    claiming.expectNewTasks()
    expect(asks()[0]).toEqual({ kind: 'shell', limit: 1 })
    await claim({ kind: 'shell', limit: 1 })
  }
  expect(waits).toEqual([20, 40, 80, 160, 250, 250])
  await clock.pass(250)
  claiming.expectNewTasks()
  await claim({ kind: 'shell', limit: 1 }, shell)
  expect(asks()).toEqual([{ limit: 2 }])
})

it('asks no kind again that has nothing, until something happens, and goes on with the other', async () => {
  const [shell, request] = [way('shell', 1), way('request', 0)]
  const { claiming, asks, claim } = server(shell, request)
  await claim({ kind: 'shell', limit: 1 })
  expect(asks()).toEqual([])
  expect(claiming.hasNothingToClaim).toBe(false)
  Object.assign(request, { places: 2 })
  Object.assign(shell, { places: 0 })
  expect(asks()).toEqual([{ kind: 'request', limit: 2 }])
  await claim({ kind: 'request', limit: 2 })
  expect(claiming.hasNothingToClaim).toBe(true)
  claiming.expectNewTasks()
  expect(claiming.hasNothingToClaim).toBe(false)
  expect(asks()).toEqual([{ kind: 'request', limit: 2 }])
})

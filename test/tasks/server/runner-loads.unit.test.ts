/** How many tasks a runner is sent. */
import { describe, expect, it } from 'vitest'
import { computePrefetch, RunnerLoads } from '../../../src/tasks/server/runner-loads.ts'
import { createServerId, isServerProcessDead } from '../../../src/tasks/server/task-server-lease.ts'

const runner = (id: string) => ({ id, inFlight: 0 })
const all = () => true

describe('the loads of runners', () => {
  it('send nothing ahead of tasks that take long, or of which nothing is known', () => {
    expect(computePrefetch(8, null)).toBe(0)
    expect(computePrefetch(8, 60_000)).toBe(0)
    expect(computePrefetch(8, 1_000)).toBe(2)
    expect(computePrefetch(2, 1)).toBe(400)
    expect(computePrefetch(64, 0)).toBe(500)
  })

  it('give each runner its number of tasks, and the next bundle to the runner with most capacity', () => {
    const loads = new RunnerLoads(4)
    const runners = [runner('a'), runner('b')]
    expect(loads.findBestRunner(runners, all)).toBe(0)
    loads.addQueuedBundle(4)
    loads.assignQueuedBundle('a')
    expect(loads.availableCapacity('a')).toBe(0)
    expect(loads.findBestRunner(runners, all)).toBe(1)
    loads.confirmBundle('a', 4, 8)
    expect(loads.availableCapacity('a')).toBe(4)
    loads.removeEndedTasks('a', 3)
    expect(loads.availableCapacity('a')).toBe(7)
    expect(loads.findBestRunner(runners, ({ id }) => id !== 'a')).toBe(1)
  })

  it('count a bundle out that came to nobody', () => {
    const loads = new RunnerLoads(2)
    loads.addQueuedBundle(2)
    expect(loads.queuedBundleCount).toBe(1)
    loads.removeQueuedBundle(2)
    expect(loads.queuedBundleCount).toBe(0)
    loads.addQueuedBundle(2)
    loads.assignQueuedBundle('a')
    loads.removeAssignedBundle('a', 2)
    expect(loads.availableCapacity('a')).toBe(2)
  })

  it('take the time that tasks lately took', () => {
    const loads = new RunnerLoads(2)
    loads.recordDuration(100)
    expect(loads.meanDurationMs).toBe(100)
    for (let i = 0; i < 200; i++) loads.recordDuration(2)
    expect(loads.meanDurationMs).toBeCloseTo(2, 1)
  })
})

describe('the id of a server', () => {
  it('tells a process that is gone, and only where that is sure', () => {
    expect(isServerProcessDead(createServerId())).toBe(false)
    expect(isServerProcessDead('0123456789abcdef')).toBe(false)
    if (process.platform !== 'linux') return console.warn('SKIPPED: no /proc to know processes by')
    const [name, space, pid, start] = createServerId().split('.')
    expect(isServerProcessDead([name, space, pid, Number(start) - 1].join('.'))).toBe(true)
    expect(isServerProcessDead([name, 'another-machine', pid, '1'].join('.'))).toBe(false)
  })
})

/** How many tasks a runner is sent. */
import { describe, expect, it } from 'vitest'
import { computePrefetch, RunnerLoads } from '../../../src/tasks/server/runner-loads.ts'
import { createServerId, isServerProcessDead } from '../../../src/tasks/server/task-server-lease.ts'

const runner = (id: string) => ({ id, inFlight: 0 })
const all = () => true

describe('books', () => {
  it('send nothing ahead of tasks that take long, or of which nothing is known', () => {
    expect(computePrefetch(8, null)).toBe(0)
    expect(computePrefetch(8, 60_000)).toBe(0)
    expect(computePrefetch(8, 1_000)).toBe(2)
    expect(computePrefetch(2, 1)).toBe(400)
    expect(computePrefetch(64, 0)).toBe(500)
  })

  it('give each runner its places, and the next bundle to who has most of them free', () => {
    const books = new RunnerLoads(4)
    const runners = [runner('a'), runner('b')]
    expect(books.findBestRunner(runners, all)).toBe(0)
    books.addQueuedBundle(4)
    books.assignQueuedBundle('a')
    expect(books.availableCapacity('a')).toBe(0)
    expect(books.findBestRunner(runners, all)).toBe(1)
    books.confirmBundle('a', 4, 8)
    expect(books.availableCapacity('a')).toBe(4)
    books.removeEndedTasks('a', 3)
    expect(books.availableCapacity('a')).toBe(7)
    expect(books.findBestRunner(runners, ({ id }) => id !== 'a')).toBe(1)
  })

  it('count a bundle out that came to nobody', () => {
    const books = new RunnerLoads(2)
    books.addQueuedBundle(2)
    expect(books.queuedBundleCount).toBe(1)
    books.removeQueuedBundle(2)
    expect(books.queuedBundleCount).toBe(0)
    books.addQueuedBundle(2)
    books.assignQueuedBundle('a')
    books.removeAssignedBundle('a', 2)
    expect(books.availableCapacity('a')).toBe(2)
  })

  it('take the time that tasks lately took', () => {
    const books = new RunnerLoads(2)
    books.recordDuration(100)
    expect(books.meanDurationMs).toBe(100)
    for (let i = 0; i < 200; i++) books.recordDuration(2)
    expect(books.meanDurationMs).toBeCloseTo(2, 1)
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

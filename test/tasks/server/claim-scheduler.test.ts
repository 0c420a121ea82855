/** Claims for an executor that is idle, beside others that are full and whose tasks come first. */
import { describe, expect, it, onTestFinished } from 'vitest'
import { processes } from '../../../providers/process/index.ts'
import { now } from '../../../src/core/time.ts'
import { Session } from '../../../src/index.ts'
import type { NewTask } from '../../../src/tasks/model/task.ts'
import { openStore, runCluster, serveForever } from '../../../src/tasks.ts'
import { useFalseClock } from '../../clock.ts'
import { countStates, createHoldingProvider, NEVER, waitUntil } from '../../help.ts'

/** What is next in the store is looked at so often, in ms, where somebody is idle. */
const LONGEST = 250
/** Runners are processes, which take their time on a busy machine. */
const PATIENT = { timeout: 120_000 }
/** Of the false clock, in ms. */
const STEP = 5

const taskOf = (url: string) => ({
  args: `GET ${url}`,
  request: { method: 'GET', url, headers: {}, body: null },
})

it('a task whose turn has come goes to the executor that is idle, though all others are full and no poll comes', async () => {
  const clock = useFalseClock()
  const { provider, seen } = createHoldingProvider()
  const session = new Session({ provider })
  onTestFinished(() => session.close({ force: true }))
  const urls = ['http://full', 'http://idle']
  for (const url of urls) session.startup({ url, concurrency: 1, initSize: 1 })
  await clock.passUntil(1, () => urls.every((url) => countStates(session, url).ready === 1))

  const store = await openStore(':memory:')
  onTestFinished(() => store.close())
  const run = serveForever({ session, store, poll: NEVER, evictAfter: NEVER })
  onTestFinished(() => run.stop())
  await run.ready
  // The first two are taken by the service that has capacity. Then each claim for the idle one brings two more of the others.
  const before = Array.from({ length: 2 + 2 * 8 }, (_, n) => taskOf(`http://full/${n}`))
  await store.add([...before, taskOf('http://idle/mine')])
  const claimed = async () => (await store.counts()).scheduled
  const times: number[] = []
  for (let count = 4; count <= before.length; count += 2) {
    await clock.passUntil(STEP, async () => (await claimed()) === count)
    times.push(now())
  }
  await clock.passUntil(STEP, () => seen.includes('mine'))
  times.push(now())
  const waits = times.slice(1).map((at, index) => at - (times[index] as number))
  expect(waits).toHaveLength(8)
  for (const wait of waits) expect(wait, waits.join()).toBeLessThan(LONGEST + 10 * STEP)
  // Looks for one that nothing comes for are rarer and rarer: a claim costs a transaction.
  expect(waits.at(-1), waits.join()).toBeGreaterThan(LONGEST - 2 * STEP)
  expect(seen).toEqual(['0', 'mine'])
})

describe('tasks of two kinds in one store', () => {
  /** More than a server ever holds. */
  const MANY = 2_000

  /** A service that answers nothing but `/now...`, and one runner that runs one task at a time. */
  async function served(tasks: readonly NewTask[]) {
    const { provider, seen } = createHoldingProvider()
    const session = new Session({ provider })
    onTestFinished(() => session.close({ force: true }))
    session.startup({ url: 'http://full', concurrency: 2, initSize: 1 })
    const store = await openStore(':memory:')
    onTestFinished(() => store.close())
    await store.add(tasks)
    const times = { forever: true, poll: NEVER, evictAfter: NEVER }
    const run = runCluster(undefined, {
      session,
      store,
      provider: processes(),
      numTasks: 1,
      ...times,
    })
    onTestFinished(() => run.stop())
    return { store, seen }
  }

  it(
    'a shell task behind thousands of requests to a service that is full runs',
    PATIENT,
    async () => {
      const requests = Array.from({ length: MANY }, (_, n) => taskOf(`http://full/${n}`))
      const { store } = await served([...requests, { args: 'true' }, { args: 'true' }])
      await waitUntil(async () => (await store.counts()).succeeded === 2, 60_000)
      // And no more of the others is held than was before.
      expect((await store.counts()).scheduled).toBeLessThan(200)
    },
  )

  it('a request behind thousands of shell tasks that take long is answered', PATIENT, async () => {
    const long = Array.from({ length: MANY }, () => ({ args: 'sleep 600' }))
    const { store, seen } = await served([...long, taskOf('http://full/now')])
    await waitUntil(async () => (await store.counts()).succeeded === 1, 60_000)
    expect(seen).toEqual(['now'])
    expect((await store.counts()).scheduled).toBeLessThan(200)
  })
})

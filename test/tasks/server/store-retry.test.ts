/** A store that is busy for long does not delay the end of a run. */
import { expect, onTestFinished, test } from 'vitest'
import { ManyhostError } from '../../../src/core/errors.ts'
import { openStore } from '../../../src/tasks/store/open.ts'
import type { Store } from '../../../src/tasks/store/store.ts'
import { runCluster } from '../../../src/tasks.ts'
import { useFalseClock } from '../../clock.ts'
import { runEventLoop, waitUntil } from '../../help.ts'

async function openBusyStore(
  busy: (keyof Store)[],
): Promise<{ store: Store; calls: () => number }> {
  const opened = await openStore(':memory:')
  onTestFinished(() => opened.close())
  let calls = 0
  const fail = async (): Promise<never> => {
    calls++
    throw new ManyhostError('MANYHOST_STORE_BUSY', 'busy')
  }
  return {
    store: { ...opened, ...Object.fromEntries(busy.map((name) => [name, fail])) },
    calls: () => calls,
  }
}

test.each<(keyof Store)[]>([['add'], ['claim'], ['add', 'claim', 'groupTurn']])(
  'stop() ends a run at once while %s and others find the store busy',
  async (...busy) => {
    const { store, calls } = await openBusyStore(busy)
    const clock = useFalseClock()
    const run = runCluster(['true'], { store, onProblem: () => undefined })
    await run.ready
    // Far enough for waits of 5 s.
    for (let ms = 0; ms < 20_000; ms += 100) {
      await clock.pass(100)
      await runEventLoop(2)
    }
    const before = calls()
    expect(before).toBeGreaterThan(3)
    run.stop()
    let hasEnded = false
    const ended = Promise.resolve(run).then(
      () => undefined,
      (error: unknown) => error,
    )
    void ended.then(() => {
      hasEnded = true
    })
    // The end of the runner's process takes real time. Meanwhile the false clock moves by less than the longest wait for
    // the store, which is 5 s.
    let passed = 0
    await waitUntil(async () => {
      if (passed < 4_000) await clock.pass(10)
      passed += 10
      return hasEnded
    })
  },
)

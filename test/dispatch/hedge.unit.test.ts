/** When a hedged request gets its second copy: `after: 'p95'`, by a false clock and without connections. */
import { Dispatcher } from 'undici'
import { expect, test } from 'vitest'
import { Dispatch } from '../../src/dispatch/dispatch.ts'
import { Target } from '../../src/dispatch/target.ts'
import { useFalseClock } from '../clock.ts'
import { runEventLoop } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'
import { seededRandom } from '../random.ts'

expectNothingLeft()

/** Keeps each request until the test answers it. */
class Keeping extends Dispatcher {
  readonly kept: (() => void)[] = []

  override dispatch(
    _options: Dispatcher.DispatchOptions,
    handler: Dispatcher.DispatchHandler,
  ): boolean {
    const answer = (): void => {
      drop()
      handler.onHeaders?.(200, [], () => undefined, 'OK')
      handler.onComplete?.([])
    }
    const drop = (): void => {
      if (this.kept.includes(answer)) this.kept.splice(this.kept.indexOf(answer), 1)
    }
    this.kept.push(answer)
    handler.onConnect?.(drop)
    return true
  }
}

/** Two instances with a place each, hedged after the 95th percentile. */
function hedged() {
  const clock = useFalseClock()
  const quiet = (): void => undefined
  const dispatch = new Dispatch(
    {
      service: 'http://calc',
      maxQueue: 10,
      queueTimeout: 0,
      timeout: 0,
      attemptTimeout: 0,
      resend: 'always',
      maxAttempts: 5,
      holdLimit: 0,
      replayLimit: 0,
      hedge: { after: 'p95' },
      balance: 'least-in-flight',
      fairness: undefined,
      ejectAfter: 3,
      random: seededRandom(7),
    },
    {
      explain: () => 'a test',
      onQueueChange: quiet,
      onDrained: quiet,
      onSuspect: quiet,
      onResend: quiet,
      onSettled: quiet,
    },
  )
  const dispatchers = [new Keeping(), new Keeping()]
  dispatch.resize(dispatchers.map((one, index) => new Target(`i-${index}`, one, 1)))
  const kept = (): (() => void)[] => dispatchers.flatMap((one) => one.kept)
  const send = async (): Promise<void> => {
    const facts = { id: '/', method: 'GET', path: '/', headers: ['x-manyhost-attempt', '1'] }
    const sink = {
      onInfo: quiet,
      onHead: quiet,
      onData: quiet,
      onEnd: quiet,
      onUpgrade: quiet,
      onError: quiet,
    }
    dispatch.send({ ...facts, body: null }, sink)
    await runEventLoop(2)
  }
  return {
    clock,
    kept,
    send,
    dispatch,
    async answered(count: number, ms: number): Promise<void> {
      for (let i = 0; i < count; i++) {
        await send()
        await clock.pass(ms)
        for (const answer of kept()) answer()
      }
    },
  }
}

test('p95: no request has a second copy before a hundred were answered', async () => {
  const { answered, clock, kept, send, dispatch } = hedged()
  await answered(99, 10)
  await send()
  await clock.pass(3_600_000)
  expect([kept().length, dispatch.stats.hedges]).toEqual([1, 0])
})

test('p95: after a hundred answers the second copy goes when nineteen of twenty would have been answered', async () => {
  const { answered, clock, kept, send, dispatch } = hedged()
  // Nine of ten take 10 ms, so that the 95th percentile is 400 ms, to the 9 % of a bucket.
  await answered(90, 10)
  await answered(10, 400)
  expect(dispatch.stats.hedges).toBe(0)
  await send()
  await clock.pass(360)
  expect(kept()).toHaveLength(1)
  await clock.pass(80)
  expect(kept()).toHaveLength(2)
  expect(dispatch.stats.hedges).toBe(1)
})

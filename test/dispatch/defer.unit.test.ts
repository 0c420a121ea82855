/** Where a resend goes if the instance that failed it is free again at once, while the other instances are busy. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { describe, expect, test, vi } from 'vitest'
import { ManyhostError } from '../../src/core/errors.ts'
import type { Attempt } from '../../src/dispatch/attempt.ts'
import { deferTimeout } from '../../src/dispatch/budget.ts'
import type { Exchange, RequestInput } from '../../src/dispatch/exchange.ts'
import type { DispatchSettings } from '../../src/dispatch/settings.ts'
import type { Target } from '../../src/dispatch/target.ts'
import { useFalseClock } from '../clock.ts'
import { runEventLoop } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'
import fc from '../properties.ts'
import { createDataPlane, type SentRequest } from './data-plane.ts'

expectNothingLeft()

/** Sends `/lost` to `bad` and `/long` to `good`, which both have one slot. */
async function busy(options: Partial<DispatchSettings> = {}, facts: Partial<RequestInput> = {}) {
  const clock = useFalseClock()
  const all = createDataPlane(['bad', 'good', 'new'], options)
  all.use('bad')
  const lost = all.send('/lost', facts)
  all.use('bad', 'good')
  all.send('/long')
  await runEventLoop(2)
  expect([all.at('bad'), all.at('good')]).toEqual([['/lost'], ['/long']])
  return { ...all, lost, clock }
}

describe('a request that a free instance has failed, while the others are busy', () => {
  test('gets the first slot of another instance; waiting requests pass it meanwhile', async () => {
    const { send, first, at, dispatch, lost } = await busy()
    first('bad')?.fail()
    expect([at('bad'), dispatch.queue.size]).toEqual([[], 1])
    send('/second')
    send('/third')
    expect([at('bad'), dispatch.queue.size]).toEqual([['/second'], 2])
    first('bad')?.answer()
    expect(at('bad')).toEqual(['/third'])
    send('/fourth')
    first('good')?.answer()
    expect([at('good'), dispatch.queue.size]).toEqual([['/lost'], 1])
    first('good')?.answer()
    expect([lost.outcome, lost.exchange.attempts, at('good')]).toEqual(['answered', 2, ['/fourth']])
    expect(vi.getTimerCount()).toBe(0)
  })

  test('waits 1 s for another instance, twice as long after each further failure, and then takes any', async () => {
    const { first, at, lost, clock } = await busy()
    for (const wait of [1_000, 2_000, 4_000, 8_000]) {
      first('bad')?.fail()
      // Up to 80 ms of it are the backoff, which comes before.
      await clock.pass(wait - 1)
      expect(at('bad')).toEqual([])
      await clock.pass(81)
      expect(at('bad')).toEqual(['/lost'])
    }
    first('bad')?.fail()
    expect(lost.outcome).toBe('MANYHOST_ATTEMPTS_EXHAUSTED')
    expect(vi.getTimerCount()).toBe(0)
  })

  test.each<[string, Partial<DispatchSettings>, Partial<RequestInput>]>([
    ["the request's deadline", {}, { timeout: 300 }],
    ["the service's deadline", { timeout: 300 }, {}],
    ['queueTimeout', { queueTimeout: 300 }, {}],
  ])(
    'half of the time that remains before %s is kept for the attempt',
    async (_, options, facts) => {
      const { first, at, lost, clock } = await busy(options, facts)
      first('bad')?.fail()
      await clock.pass(149)
      expect(at('bad')).toEqual([])
      await clock.pass(2)
      expect(at('bad')).toEqual(['/lost'])
      first('bad')?.answer()
      expect(lost.outcome).toBe('answered')
    },
  )

  test('does not wait for requests with a longer deferTimeout', async () => {
    const { send, first, at, clock } = await busy()
    first('bad')?.fail()
    await clock.pass(1_000)
    first('bad')?.fail()
    await clock.pass(10)
    send('/other')
    first('bad')?.fail()
    await clock.pass(1_000)
    expect(at('bad')).toEqual(['/other'])
  })

  test('goes at once to the instance that failed it, if there is no other', async () => {
    useFalseClock()
    const { send, first, at } = createDataPlane(['bad'])
    send('/lost')
    await runEventLoop(2)
    first('bad')?.fail()
    expect(at('bad')).toEqual(['/lost'])
  })

  test('goes at once to any instance, if all instances have failed it', async () => {
    const { first, at, clock, send } = await busy()
    first('bad')?.fail()
    send('/else')
    first('good')?.answer()
    expect([at('bad'), at('good')]).toEqual([['/else'], ['/lost']])
    first('good')?.fail()
    // The backoff.
    await clock.pass(10)
    expect(at('good')).toEqual(['/lost'])
  })

  test('goes at once to any instance when the last one that has not failed it is removed', async () => {
    const { first, at, use } = await busy()
    first('bad')?.fail()
    use('bad')
    expect(at('bad')).toEqual(['/lost'])
  })

  test('goes at once to an instance that is added', async () => {
    const { first, at, use } = await busy()
    first('bad')?.fail()
    use('bad', 'good', 'new')
    await runEventLoop(2)
    expect(at('new')).toEqual(['/lost'])
  })

  test('can be cancelled, counts in the queue, and ends with the service', async () => {
    const { first, send, dispatch, lost, clock } = await busy({ queueTimeout: 10_000 })
    first('bad')?.fail()
    lost.exchange.cancel(new ManyhostError('MANYHOST_ABORTED', ''))
    expect([lost.outcome, dispatch.queue.size]).toEqual(['MANYHOST_ABORTED', 0])
    const again = send('/again')
    first('bad')?.fail()
    await clock.pass(500)
    expect([dispatch.queue.size, dispatch.queue.oldestAge]).toEqual([1, 500])
    dispatch.close(new ManyhostError('MANYHOST_SESSION_CLOSED', ''))
    expect([again.outcome, dispatch.queue.size]).toEqual(['MANYHOST_SESSION_CLOSED', 0])
    expect(vi.getTimerCount()).toBe(0)
  })
})

test('deferTimeout doubles from 1 s to 8 s, and is at most half of the time that remains', () => {
  const failures = fc.integer({ min: 1, max: 2_000 })
  const left = fc.oneof(fc.constant(Number.POSITIVE_INFINITY), fc.double({ min: 0, max: 1e6 }))
  fc.assert(
    fc.property(failures, left, (count, time) => {
      const full = count < 4 ? 1_000 * 2 ** (count - 1) : 8_000
      expect(deferTimeout(count, time)).toBe(Math.min(full, time / 2))
    }),
  )
})

const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('send' as const) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('answer' as const), nth: fc.nat(3) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('fail' as const), nth: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('cancel' as const), nth: fc.nat(20) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('use' as const), bits: fc.nat(15) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.nat(3_000) }) },
)

test('for any sequence of events: no suitable slot stays idle, deferTimeout is kept, and no request is lost', async () => {
  const clock = useFalseClock()
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 80, size: 'max' }), async (steps) => {
      const ids = ['a', 'b', 'c', 'd']
      const { at, first, send, use, dispatch, targets } = createDataPlane(
        ids,
        { maxAttempts: 6 },
        3,
      )
      const all: SentRequest[] = []
      const wrong: string[] = []
      let newest = -1
      const onAttempt = ({ exchange, attempt }: { exchange: Exchange; attempt: Attempt }): void => {
        const { id } = exchange.request
        const target = attempt.target as Target
        if (attempt.number === 1) {
          if (Number(id) < newest) wrong.push(`${id} was passed by ${newest}`)
          newest = Number(id)
          const least = targets.some(
            (one) => one.freeSlots > 0 && one.inFlight < target.inFlight - 1,
          )
          if (least) wrong.push(`${id} went to ${target.id}, which had more than another`)
        }
        const others = targets.filter((one) => one.open && !failed(exchange, one))
        if (!failed(exchange, target) || others.length === 0) return
        if (others.some(({ freeSlots }) => freeSlots > 0))
          wrong.push(`${id} could have gone elsewhere`)
        const waited = attempt.startedAt - attempt.joinedAt
        const short = deferTimeout(attempt.number - 1, Number.POSITIVE_INFINITY) - waited
        if (short > 0.001) wrong.push(`${id} went to ${target.id} ${short} ms too soon`)
      }
      subscribe('manyhost:attempt:start', onAttempt as never)
      for (const one of steps) {
        const id = ids['nth' in one ? one.nth : 0] ?? ''
        if (one.do === 'send') all.push(send(String(all.length)))
        else if (one.do === 'answer') first(id)?.answer()
        else if (one.do === 'fail') first(id)?.fail()
        else if (one.do === 'cancel') {
          all[one.nth]?.exchange.cancel(new ManyhostError('MANYHOST_ABORTED', ''))
        } else if (one.do === 'use') use(...ids.filter((_, i) => one.bits & (1 << i)))
        else await clock.pass(one.ms)
        await runEventLoop(2)
        const served = new Set(ids.flatMap(at))
        const left = all.filter((one) => !one.outcome && !served.has(one.exchange.request.id))
        const idle = targets.filter(({ freeSlots }) => freeSlots > 0)
        const wants = left.filter(({ exchange }) => idle.some((one) => !failed(exchange, one)))
        // The others wait for the time of their next attempt.
        const pausing = left.length - dispatch.queue.size
        if (wants.length > pausing) wrong.push(`${wants.length} wait beside a free slot`)
      }
      use(...ids)
      for (let turn = 0; turn < 200 && !dispatch.isIdle; turn++) {
        for (const id of ids) first(id)?.answer()
        await clock.pass(100)
      }
      unsubscribe('manyhost:attempt:start', onAttempt as never)
      expect(wrong).toEqual([])
      expect(all.filter(({ outcome }) => outcome === undefined)).toEqual([])
      expect([dispatch.isIdle, vi.getTimerCount()]).toEqual([true, 0])
    }),
    { numRuns: 300 },
  )
})

/** Whether the request was failed by this instance before. */
function failed({ reports = [] }: Exchange, { id }: Target): boolean {
  return reports.some(({ instance }) => instance === id)
}

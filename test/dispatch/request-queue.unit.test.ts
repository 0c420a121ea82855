/** Rules of the queue that no caller sees directly: counts, events, and which instance is next. */
import { describe, expect, test } from 'vitest'
import type { Pick } from '../../src/dispatch/balance.ts'
import { useFalseClock } from '../clock.ts'
import { runEventLoop } from '../help.ts'
import { expectNothingLeft } from '../leftovers.ts'
import { createDataPlane } from './data-plane.ts'

expectNothingLeft()

test('maxQueue 0: a request is served if a slot is free, and refused otherwise', async () => {
  const { at, send, use } = createDataPlane(['a'], { maxQueue: 0 })
  const first = send('/first')
  await runEventLoop(2)
  const second = send('/second')
  expect([at('a'), first.outcome, second.outcome]).toEqual([
    ['/first'],
    undefined,
    'MANYHOST_QUEUE_FULL',
  ])
  use()
  expect(send('/third').outcome).toBe('MANYHOST_QUEUE_FULL')
})

test('queueTimeout counts for each waiting request by itself', async () => {
  const clock = useFalseClock()
  const { send, use } = createDataPlane(['a'], { queueTimeout: 100 })
  use()
  const first = send('/first')
  await clock.pass(40)
  const second = send('/second')
  await clock.pass(60)
  expect([first.outcome, second.outcome]).toEqual(['MANYHOST_QUEUE_TIMEOUT', undefined])
  await clock.pass(39)
  expect(second.outcome).toBe(undefined)
  await clock.pass(1)
  expect(second.outcome).toBe('MANYHOST_QUEUE_TIMEOUT')
})

test('onChange is called once when requests begin to wait and once when the last one was cancelled', () => {
  const { changes, give, send, use } = createDataPlane(['a'])
  use()
  const all = ['/1', '/2', '/3'].map((path) => send(path))
  expect(changes()).toBe(1)
  for (const one of all.slice(0, 2)) give(one)
  expect(changes()).toBe(1)
  for (const one of all.slice(2)) give(one)
  expect(changes()).toBe(2)
})

describe('least in flight', () => {
  test('a new instance gets the next requests until it has as many as the others', async () => {
    const { at, send, use } = createDataPlane(['a', 'b', 'c'], {}, 10)
    use('a', 'b')
    for (let count = 0; count < 6; count++) send(`/${count}`)
    await runEventLoop(2)
    use('a', 'b', 'c')
    for (const path of ['/6', '/7', '/8']) send(path)
    await runEventLoop(2)
    expect(at('c')).toEqual(['/6', '/7', '/8'])
  })

  test.each([0, 1])(
    'after a resend has avoided the idle instance, the next request goes there (turn %i)',
    async (turn) => {
      const clock = useFalseClock()
      const { at, first, send, use } = createDataPlane(['a', 'b'], {}, 10)
      use('b')
      send('/lost')
      send('/long')
      await runEventLoop(2)
      use('a', 'b')
      first('b')?.fail()
      await clock.pass(100)
      expect([at('a'), at('b')]).toEqual([['/lost'], ['/long']])
      // A pick more, so that the search for the least begins with each of them once.
      const more = Array.from({ length: turn }, () => send('/more'))
      await runEventLoop(2)
      first('a')?.fail()
      for (const one of more) one.exchange.cancel(new Error('no longer needed'))
      await clock.pass(100)
      expect([at('a'), at('b')]).toEqual([[], ['/long', '/lost']])
      first('b')?.answer()
      send('/next')
      await runEventLoop(2)
      expect([at('a'), at('b')]).toEqual([['/next'], ['/lost']])
    },
  )
})

test('a resend with an affinity goes to the instance that gets the next request with that key', async () => {
  const clock = useFalseClock()
  const ids = ['a', 'b', 'c', 'd', 'e']
  for (let key = 0; key < 12; key++) {
    const { at, first, send, use } = createDataPlane(ids, {}, 10)
    const affinity = `key ${key}`
    const where = (path: string): string | undefined => ids.find((id) => at(id).includes(path))
    send('/lost', { affinity })
    await runEventLoop(2)
    const failing = where('/lost') as string
    first(failing)?.fail()
    await clock.pass(100)
    use(...ids.filter((id) => id !== failing))
    send('/next', { affinity })
    await runEventLoop(2)
    expect(where('/lost')).toBe(where('/next'))
  }
})

test('a balance that removes an instance while it is called: the request goes to the next free one', async () => {
  let takesAway = false
  const balance: Pick = (targets, { turn }) => {
    if (takesAway) use('a')
    takesAway = false
    return turn % targets.length
  }
  const { at, first, send, use } = createDataPlane(['a', 'b'], { balance })
  use('a')
  send('/first')
  await runEventLoop(2)
  use('a', 'b')
  takesAway = true
  const second = send('/second')
  await runEventLoop(2)
  expect([at('a'), at('b')]).toEqual([['/first'], []])
  first('a')?.answer()
  await runEventLoop(2)
  expect(at('a')).toEqual(['/second'])
  first('a')?.answer()
  expect(second.outcome).toBe('answered')
})

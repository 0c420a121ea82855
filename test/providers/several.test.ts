import { afterEach, describe, expect, test, vi } from 'vitest'
import { several } from '../../providers/several.ts'
import { inProcess } from '../../providers/testing/index.ts'
import type { Provider, Running } from '../../src/core/provider.ts'
import { Session } from '../../src/index.ts'
import { catchThrown, rejectionOf, waitForReady } from '../help.ts'
import { specOf } from './process-help.ts'

const { signal } = new AbortController()

afterEach(() => void vi.useRealTimers())

/** A place of so much room that counts what it was asked for. */
function place(limit?: number, refuse: () => boolean = () => false) {
  const inner = inProcess(() => new Response('ok'))
  const asked: string[] = []
  const provider: Provider = {
    name: 'place',
    capabilities: inner.capabilities,
    limit,
    start: (spec, options) => {
      asked.push(spec.id)
      if (refuse()) return Promise.reject(new Error('full'))
      return inner.start(spec, options)
    },
    close: async () => inner.close?.(),
  }
  return Object.assign(provider, { asked, running: () => inner.instances.length })
}

const start = (provider: Provider): Promise<Running> => provider.start(specOf(), { signal })

test('the first one gets all that it has room for, then the second; what ends makes room', async () => {
  const [cheap, dear] = [place(2), place()]
  const both = several([cheap, dear])
  const all = await Promise.all([start(both), start(both), start(both)])
  expect([cheap.asked.length, dear.asked.length]).toEqual([2, 1])
  await all[0]?.stop(0)
  await start(both)
  expect([cheap.asked.length, dear.asked.length]).toEqual([3, 1])
  await both.close?.()
})

test('one that has no machine at the moment is not asked (several left `available` out)', async () => {
  let machines = 0
  const [cheap, dear] = [place(), place(3)]
  const both = several([Object.assign(cheap, { available: () => machines }), dear])
  expect(both.available?.('http://calc')).toBe(3)
  await start(both)
  expect([cheap.asked.length, dear.asked.length]).toEqual([0, 1])
  machines = 1
  expect(both.available?.('http://calc')).toBe(4)
  await Promise.all([start(both), start(both)])
  expect([cheap.asked.length, dear.asked.length]).toEqual([1, 2])
  // Another service has its own.
  await both.start(specOf({ service: 'http://other' }), { signal })
  expect(cheap.asked.length).toBe(2)
  await both.close?.()
})

test('one that refuses comes last for a while', async () => {
  vi.useFakeTimers({ toFake: ['performance'] })
  let isFull = true
  const [cheap, dear] = [place(undefined, () => isFull), place()]
  const both = several([cheap, dear])
  await start(both)
  isFull = false
  vi.advanceTimersByTime(999)
  await start(both)
  expect([cheap.asked.length, dear.asked.length]).toEqual([1, 2])
  vi.advanceTimersByTime(1)
  await start(both)
  expect([cheap.asked.length, dear.asked.length]).toEqual([2, 2])
  await both.close?.()
})

test('a start that waits longer than `spilloverAfter` goes to the next provider', async () => {
  const stuck: Provider = {
    name: 'stuck',
    capabilities: new Set(),
    start: (_, options) =>
      new Promise((_resolve, reject) => {
        options.signal.addEventListener('abort', () => reject(options.signal.reason))
      }),
  }
  const dear = place()
  // Only what is waited for takes time: a busy machine does not.
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  const both = several([stuck, dear], { spilloverAfter: 20 })
  const starting = start(both)
  await vi.advanceTimersByTimeAsync(19)
  expect(dear.asked.length).toBe(0)
  await vi.advanceTimersByTimeAsync(1)
  await starting
  expect(dear.asked.length).toBe(1)
  const only = rejectionOf(start(several([stuck], { spilloverAfter: 20 })))
  await vi.advanceTimersByTimeAsync(20)
  expect((await only).message).toContain(
    'provider stuck did not start the instance within 20 ms (spilloverAfter)',
  )
  await both.close?.()
})

test('by weight: three to one', async () => {
  const [a, b] = [place(), place()]
  const both = several([a, b], { weights: [3, 1] })
  for (let i = 0; i < 8; i++) await start(both)
  expect([a.asked.length, b.asked.length]).toEqual([6, 2])
  await both.close?.()
})

test('all refuse: the error names each reason', async () => {
  const both = several([place(undefined, () => true), place(undefined, () => true)])
  const error = await rejectionOf(start(both))
  expect(error.code).toBe('MANYHOST_START_FAILED')
  expect(error.message).toContain('full; full')
})

test('a start that is given up goes to nobody else', async () => {
  const giveUp = new AbortController()
  const first = place(undefined, () => {
    giveUp.abort(new Error('enough'))
    return true
  })
  const second = place()
  const starting = several([first, second]).start(specOf(), { signal: giveUp.signal })
  await rejectionOf(starting)
  expect(second.asked).toEqual([])
})

test('its limit is the sum of theirs, its capabilities what all have', () => {
  expect(several([place(2), place(3)]).limit).toBe(5)
  expect(several([place(2), place()]).limit).toBeUndefined()
  const some: Provider = { ...place(), capabilities: new Set(['command', 'image'] as const) }
  const other: Provider = { ...place(), capabilities: new Set(['image', 'function'] as const) }
  expect([...several([some, other]).capabilities]).toEqual(['image'])
})

test('a session on two places bursts, and comes back', async () => {
  const [cheap, dear] = [place(2), place()]
  const session = new Session({ provider: several([cheap, dear]), tickInterval: 50 })
  session.startup({ url: 'http://calc', initSize: 4 })
  await waitForReady(session, 'http://calc', 4)
  expect([cheap.running(), dear.running()]).toEqual([2, 2])
  session.setSize('http://calc', 1)
  await waitForReady(session, 'http://calc', 1)
  await session.close()
})

describe('options', () => {
  test.each<[unknown, unknown, string]>([
    [[], {}, 'must be a list of providers, got []'],
    [[{}], {}, 'a list of providers'],
    [[place(), place()], { weights: [1] }, 'weights must be a list of 2 numbers above 0, got [1]'],
    [
      [place()],
      { spilloverAfter: -1 },
      'spilloverAfter must be milliseconds from 0 up (0: never), got -1',
    ],
    [[place()], { order: 1 }, "several: unknown option 'order'"],
  ])('%# is refused', (providers, options, text) => {
    const error = catchThrown(() => several(providers as Provider[], options as object))
    expect(error).toMatchObject({ code: 'MANYHOST_INVALID_OPTION' })
    expect(error.message).toContain(text)
  })
})

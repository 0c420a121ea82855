import { afterEach, describe, expect, test, vi } from 'vitest'
import { several } from '../../providers/several.ts'
import { inProcess } from '../../providers/testing/index.ts'
import type { Provider, Running } from '../../src/core/provider.ts'
import { Session } from '../../src/index.ts'
import { catchThrown, rejectionOf, waitForReady } from '../help.ts'
import { specOf } from './process-help.ts'

const { signal } = new AbortController()

afterEach(() => void vi.useRealTimers())

/** A provider with a limit that remembers the instances it was asked to start. */
function createProvider(limit?: number, refuse: () => boolean = () => false) {
  const inner = inProcess(() => new Response('ok'))
  const asked: string[] = []
  const provider: Provider = {
    name: 'counting',
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

test('the first provider is filled up first, then the second; an instance that ends makes space', async () => {
  const [cheap, dear] = [createProvider(2), createProvider()]
  const both = several([cheap, dear])
  const all = await Promise.all([start(both), start(both), start(both)])
  expect([cheap.asked.length, dear.asked.length]).toEqual([2, 1])
  await all[0]?.stop(0)
  await start(both)
  expect([cheap.asked.length, dear.asked.length]).toEqual([3, 1])
  await both.close?.()
})

test('a provider without an available machine is not asked (several ignored `available`)', async () => {
  let machines = 0
  const [cheap, dear] = [createProvider(), createProvider(3)]
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

test('a provider that refuses a start is tried last for some time', async () => {
  vi.useFakeTimers({ toFake: ['performance'] })
  let isFull = true
  const [cheap, dear] = [createProvider(undefined, () => isFull), createProvider()]
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
  const dear = createProvider()
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
  const [a, b] = [createProvider(), createProvider()]
  const both = several([a, b], { weights: [3, 1] })
  for (let i = 0; i < 8; i++) await start(both)
  expect([a.asked.length, b.asked.length]).toEqual([6, 2])
  await both.close?.()
})

test('all refuse: the error names each reason', async () => {
  const both = several([
    createProvider(undefined, () => true),
    createProvider(undefined, () => true),
  ])
  const error = await rejectionOf(start(both))
  expect(error.code).toBe('MANYHOST_START_FAILED')
  expect(error.message).toContain('full; full')
})

test('a start that is given up does not go to another provider', async () => {
  const giveUp = new AbortController()
  const first = createProvider(undefined, () => {
    giveUp.abort(new Error('enough'))
    return true
  })
  const second = createProvider()
  const starting = several([first, second]).start(specOf(), { signal: giveUp.signal })
  await rejectionOf(starting)
  expect(second.asked).toEqual([])
})

test('the limit is the sum of all limits, the capabilities are those that all providers have', () => {
  expect(several([createProvider(2), createProvider(3)]).limit).toBe(5)
  expect(several([createProvider(2), createProvider()]).limit).toBeUndefined()
  const some: Provider = {
    ...createProvider(),
    capabilities: new Set(['command', 'image'] as const),
  }
  const other: Provider = {
    ...createProvider(),
    capabilities: new Set(['image', 'function'] as const),
  }
  expect([...several([some, other]).capabilities]).toEqual(['image'])
})

test('a session grows to the second provider, and shrinks back to the first', async () => {
  const [cheap, dear] = [createProvider(2), createProvider()]
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
    [
      [createProvider(), createProvider()],
      { weights: [1] },
      'weights must be a list of 2 numbers above 0, got [1]',
    ],
    [
      [createProvider()],
      { spilloverAfter: -1 },
      'spilloverAfter must be milliseconds from 0 up (0: never), got -1',
    ],
    [[createProvider()], { order: 1 }, "several: unknown option 'order'"],
  ])('%# is refused', (providers, options, text) => {
    const error = catchThrown(() => several(providers as Provider[], options as object))
    expect(error).toMatchObject({ code: 'MANYHOST_INVALID_OPTION' })
    expect(error.message).toContain(text)
  })
})

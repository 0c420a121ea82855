import { afterEach, describe, expect, test } from 'vitest'
import { type FaultOptions, seededRandom } from '../../../providers/testing/fault-plan.ts'
import { faults, inProcess } from '../../../providers/testing/index.ts'
import type { Running } from '../../../src/core/provider.ts'
import { describeOutcome, start, startFaulty, stopAll } from '../../fakes/in-process.ts'

afterEach(stopAll)

describe('the seed', () => {
  const mixed: FaultOptions = {
    seed: 7,
    abort: { percentage: 30, after: 'headers' },
    status: { percentage: 30, code: 500 },
  }

  async function sequence(one: Running, length = 60): Promise<string[]> {
    const seen: string[] = []
    for (let i = 0; i < length; i++) seen.push(await describeOutcome(one))
    return seen
  }

  test('gives the same faults in the same order, and another seed others', async () => {
    const [one, two] = [await startFaulty(mixed), await startFaulty(mixed)]
    const first = await sequence(one.one)
    expect(await sequence(two.one)).toEqual(first)
    expect(new Set(first)).toEqual(new Set(['200', '500', 'ECONNRESET']))
    const { abort, status } = one.provider.counts
    expect(abort).toBe(first.filter((seen) => seen === 'ECONNRESET').length)
    expect(status).toBe(first.filter((seen) => seen === '500').length)
    one.provider.set(mixed)
    expect(await sequence(one.one)).toEqual(first)
    one.provider.set({ ...mixed, seed: 8 })
    expect(await sequence(one.one)).not.toEqual(first)
  })

  test('switching one fault off does not move the others', async () => {
    const { status: _, ...abortOnly } = mixed
    const [both, aborts] = [await startFaulty(mixed), await startFaulty(abortOnly)]
    const with500 = await sequence(both.one)
    const without = await sequence(aborts.one)
    expect(without).toEqual(with500.map((seen) => (seen === '500' ? '200' : seen)))
  })

  test('percentages are kept', () => {
    const random = seededRandom(1)
    const drawn = Array.from({ length: 20_000 }, random)
    expect(Math.min(...drawn)).toBeGreaterThanOrEqual(0)
    expect(Math.max(...drawn)).toBeLessThan(1)
    const share = drawn.filter((value) => value < 0.3).length / drawn.length
    expect(share).toBeCloseTo(0.3, 1)
  })
})

describe('options', () => {
  test.each([
    [{ abort: { percentage: 101 } }, 'abort.percentage must be a number from 0 to 100, got 101'],
    [{ abort: {} }, 'abort.percentage must be a number from 0 to 100, got undefined'],
    [
      { abort: { percentage: 1, after: 'x' } },
      'abort.after must be one of request, headers, body, got "x"',
    ],
    [{ kill: 5 }, 'kill must be an object of percentage, after, got 5'],
    [{ seed: 1.5 }, 'seed must be a whole number from 0 to 4294967295, got 1.5'],
    [{ delay: { ms: Number.NaN } }, 'delay.ms must be a number from 0, got NaN'],
    [{ delay: { ms: [2, 1] } }, 'delay.ms[1] must be a number from 2, got 1'],
    [{ delay: { ms: [1] } }, 'delay.ms must be a number or [min, max], got [1]'],
    [
      { startDelay: { ms: 1, percentage: -1 } },
      'startDelay.percentage must be a number from 0 to 100, got -1',
    ],
    [
      { status: { code: 99, percentage: 1 } },
      'status.code must be a whole number from 200 to 599, got 99',
    ],
    [
      { startFailure: { code: 1, percentage: 1 } },
      'an option of startFailure must be one of percentage, got "code"',
    ],
    [
      { latency: 1 },
      'an option of faults must be one of seed, delay, abort, status, kill, startDelay, startFailure, got "latency"',
    ],
  ])('%j is refused', async (options, message) => {
    const inner = inProcess(() => new Response('fine'))
    const error = expect.objectContaining({ code: 'MANYHOST_INVALID_OPTION', message })
    expect(() => faults(inner, options as never)).toThrow(error)
    const provider = faults(inner, { status: { code: 500, percentage: 100 } })
    const one = await start(provider)
    expect(() => provider.set(options as never)).toThrow(error)
    expect(await describeOutcome(one)).toBe('500')
  })
})

import { expect, test } from 'vitest'
import { backoffDelay, exponentialDelay } from '../../src/core/backoff.ts'
import fc from '../properties.ts'

test('the delay doubles from min to max', () => {
  const range = { min: 100, max: 1_000 }
  expect([0, 1, 2, 3, 4, 1_000].map((failures) => exponentialDelay(failures, range))).toEqual([
    100, 200, 400, 800, 1_000, 1_000,
  ])
})

test('equal jitter lies between half of the delay and the delay, for every count of failures', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: -1, max: Number.MAX_SAFE_INTEGER }),
      fc.record({
        min: fc.integer({ min: 1, max: 10_000 }),
        max: fc.integer({ min: 1, max: 1e9 }),
      }),
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      (failures, range, random) => {
        const full = exponentialDelay(failures, range)
        const delay = backoffDelay(failures, range, () => random)
        expect(full).toBeLessThanOrEqual(range.max)
        expect(delay).toBeGreaterThanOrEqual(full / 2)
        expect(delay).toBeLessThanOrEqual(full)
      },
    ),
  )
})

/** The time that an ending instance is left: it only ever gets shorter. */
import { expect, test } from 'vitest'
import { StopDeadline } from '../../../providers/shared/stop-deadline.ts'
import { useFalseClock } from '../../clock.ts'

test.each([
  ['a longer grace does not extend a shorter one', [100, 1_000], 100],
  ['a shorter grace shortens a longer one', [1_000, 100], 100],
  ['the shortest of many holds', [1_000, 300, 700, 200, 5_000], 200],
])('%s', async (_name, graces, least) => {
  const clock = useFalseClock()
  let ends = 0
  const grace = new StopDeadline(() => ends++)
  for (const ms of graces) grace.shorten(ms)
  await clock.pass(least - 1)
  expect(ends).toBe(0)
  await clock.pass(1)
  expect(ends).toBe(1)
  await clock.pass(10_000)
  expect(ends).toBe(1)
})

test('a longer grace, given when most of a shorter one is over, does not extend it', async () => {
  const clock = useFalseClock()
  let ends = 0
  const grace = new StopDeadline(() => ends++)
  grace.shorten(100)
  await clock.pass(90)
  grace.shorten(100)
  await clock.pass(10)
  expect(ends).toBe(1)
})

test('0 ends it at once, and nothing more after that', async () => {
  const clock = useFalseClock()
  let ends = 0
  const grace = new StopDeadline(() => ends++)
  grace.shorten(100)
  grace.shorten(0)
  expect(ends).toBe(1)
  grace.cancel()
  grace.shorten(0)
  await clock.pass(200)
  expect(ends).toBe(1)
})

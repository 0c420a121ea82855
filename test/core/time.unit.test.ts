import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { afterSilence, now, sleep, until } from '../../src/core/time.ts'

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
})
afterEach(() => void vi.useRealTimers())

test('a sleep ends with its signal', async () => {
  const abort = new AbortController()
  const slept = sleep(1_000, abort.signal)
  abort.abort(new Error('enough'))
  await expect(slept).rejects.toThrow('enough')
})

test('until: true as soon as the condition holds, false when time is over', async () => {
  let holds = false
  const came = until(() => holds, 1_000)
  await vi.advanceTimersByTimeAsync(500)
  holds = true
  await vi.advanceTimersByTimeAsync(10)
  expect(await came).toBe(true)
  const late = until(() => false, 100)
  await vi.advanceTimersByTimeAsync(200)
  expect(await late).toBe(false)
})

test('a standstill of our own is no silence of the other side: it listens once more, and once only', async () => {
  let ends = 0
  const at = (ms: number): void => void vi.spyOn(performance, 'now').mockReturnValue(ms)
  const start = now()
  const timer = afterSilence(1_000, () => ends++)
  at(start + 1_300)
  await vi.advanceTimersByTimeAsync(1_000)
  expect(ends).toBe(0)
  await vi.advanceTimersByTimeAsync(299)
  expect(ends).toBe(0)
  at(start + 9_000)
  await vi.advanceTimersByTimeAsync(1)
  expect(ends).toBe(1)
  timer.clear()
  vi.restoreAllMocks()
})

test('a silence is as long as it was said to be, and ends when it is cleared', async () => {
  let ends = 0
  afterSilence(1_000, () => ends++)
  const cleared = afterSilence(500, () => ends++)
  await vi.advanceTimersByTimeAsync(499)
  cleared.clear()
  await vi.advanceTimersByTimeAsync(500)
  expect(ends).toBe(0)
  await vi.advanceTimersByTimeAsync(1)
  expect(ends).toBe(1)
})

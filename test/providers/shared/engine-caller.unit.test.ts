/** Calls to an engine that cannot be reached for some time, with a false clock; and exit codes. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { EngineCaller, isConnectionError } from '../../../providers/shared/engine-caller.ts'
import { exitCodeOfSignal, exitOfCode } from '../../../providers/shared/exit.ts'
import { ManyhostError } from '../../../src/core/errors.ts'
import { rejectionOf } from '../../help.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

function refused(): Error {
  return Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })
}

function open(): EngineCaller {
  return new EngineCaller({
    timeoutMs: 1_000,
    isUnreachableError: isConnectionError,
    createUnreachableError: (what, cause) =>
      new ManyhostError('MANYHOST_START_FAILED', `cannot ${what}`, { cause }),
  })
}

test('if the engine comes back, the call is made again, and answered', async () => {
  const away = open()
  expect(await away.call('ask', async () => 1)).toBe(1)
  let isThere = false
  let calls = 0
  const answer = away.call('ask', async () => {
    calls++
    if (!isThere) throw refused()
    return 2
  })
  await vi.advanceTimersByTimeAsync(10_000)
  expect(away.isUnreachable).toBe(true)
  // 20, 40, 80 ... and then twice a second.
  expect(calls).toBeGreaterThan(20)
  expect(calls).toBeLessThan(30)
  isThere = true
  await vi.advanceTimersByTimeAsync(500)
  expect(await answer).toBe(2)
  expect(away.isUnreachable).toBe(false)
})

test('an engine that was never reached is a mistake: it is not tried again', async () => {
  let calls = 0
  const error = await rejectionOf(
    open().call('ask', async () => {
      calls++
      throw refused()
    }),
  )
  expect(error).toMatchObject({ code: 'MANYHOST_START_FAILED', message: 'cannot ask' })
  expect(calls).toBe(1)
})

test('retries end after `retryMs`, with the signal, and with close', async () => {
  const away = open()
  await away.call('ask', async () => 1)
  const call = (options: object) =>
    rejectionOf(away.call('ask', () => Promise.reject(refused()), options))
  const giveUp = new AbortController()
  const errors = [call({ retryMs: 2_000 }), call({ signal: giveUp.signal })]
  await vi.advanceTimersByTimeAsync(2_600)
  expect((await errors[0])?.message).toBe('cannot ask')
  giveUp.abort()
  expect((await errors[1])?.message).toBe('cannot ask')
  const last = call({})
  await vi.advanceTimersByTimeAsync(100)
  away.close()
  expect((await last).message).toBe('cannot ask')
})

test('a refusal of the engine is passed on at once', async () => {
  const away = open()
  const refusal = Object.assign(new Error('no such image'), { statusCode: 404 })
  expect(await rejectionOf(away.call('ask', () => Promise.reject(refusal)))).toBe(refusal)
  expect(away.isUnreachable).toBe(false)
})

test('a call that takes too long is cut, and counts as not reached', async () => {
  const away = open()
  await away.call('ask', async () => 1)
  let cut: AbortSignal | undefined
  const error = rejectionOf(
    away.call(
      'ask',
      (signal) => {
        cut = signal
        return new Promise(() => {})
      },
      { timeoutMs: 300, retryMs: 0 },
    ),
  )
  await vi.advanceTimersByTimeAsync(300)
  expect((await error).cause).toMatchObject({
    message: 'ask took longer than 300 ms',
    code: 'ETIMEDOUT',
  })
  expect(cut?.aborted).toBe(true)
})

test('the exit code of a signal is 128 plus its number', () => {
  expect(exitOfCode(3)).toEqual({ reason: 'exited', detail: 'exit code 3' })
  expect(exitOfCode(137)).toEqual({ reason: 'killed', detail: 'killed by SIGKILL' })
  expect(exitOfCode(143).detail).toBe('killed by SIGTERM')
  expect(exitOfCode(255)).toEqual({ reason: 'exited', detail: 'exit code 255' })
  expect([exitCodeOfSignal('SIGTERM'), exitCodeOfSignal('SIGNONE')]).toEqual([143, 137])
})

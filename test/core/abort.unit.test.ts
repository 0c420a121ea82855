import { getEventListeners } from 'node:events'
import { expect, test } from 'vitest'
import { rejectOnAbort } from '../../src/core/abort.ts'
import { deferred } from '../../src/core/deferred.ts'

test('it settles as the promise does, and leaves no listener', async () => {
  const { signal } = new AbortController()
  expect(await rejectOnAbort(Promise.resolve(1), signal)).toBe(1)
  await expect(rejectOnAbort(Promise.reject(new Error('no')), signal)).rejects.toThrow('no')
  expect(getEventListeners(signal, 'abort')).toEqual([])
})

test('it rejects with the reason when the signal is aborted, before or meanwhile', async () => {
  const reason = new Error('enough')
  const never = deferred<void>().promise
  await expect(rejectOnAbort(never, AbortSignal.abort(reason))).rejects.toBe(reason)
  const giveUp = new AbortController()
  const waiting = rejectOnAbort(never, giveUp.signal)
  giveUp.abort(reason)
  await expect(waiting).rejects.toBe(reason)
})

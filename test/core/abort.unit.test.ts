import { getEventListeners } from 'node:events'
import { expect, test } from 'vitest'
import { settleOrAbort } from '../../src/core/abort.ts'
import { deferred } from '../../src/core/deferred.ts'

test('it settles as its promise does, and leaves no listener', async () => {
  const { signal } = new AbortController()
  expect(await settleOrAbort(Promise.resolve(1), signal)).toBe(1)
  await expect(settleOrAbort(Promise.reject(new Error('broken')), signal)).rejects.toThrow('broken')
  await Promise.resolve()
  expect(getEventListeners(signal, 'abort')).toEqual([])
})

test('it rejects as soon as the signal is aborted, with the reason', async () => {
  const controller = new AbortController()
  const never = deferred<void>()
  const settled = settleOrAbort(never.promise, controller.signal)
  controller.abort(new Error('given up'))
  await expect(settled).rejects.toThrow('given up')
  await expect(settleOrAbort(never.promise, controller.signal)).rejects.toThrow('given up')
})

test("a rejection after the abort is nobody's: it does not end the process", async () => {
  const controller = new AbortController()
  const late = deferred<void>()
  const settled = settleOrAbort(late.promise, controller.signal)
  controller.abort(new Error('given up'))
  late.reject(new Error('late'))
  await expect(settled).rejects.toThrow('given up')
})

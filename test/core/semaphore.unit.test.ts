import { expect, test } from 'vitest'
import { deferred } from '../../src/core/deferred.ts'
import { Semaphore } from '../../src/core/semaphore.ts'

test('at most `limit` actions run at a time, in the order in which they came', async () => {
  const semaphore = new Semaphore(2)
  const begun: number[] = []
  const gates = Array.from({ length: 4 }, () => deferred<void>())
  const all = gates.map(({ promise }, index) =>
    semaphore.run(() => {
      begun.push(index)
      return promise
    }),
  )
  expect(begun).toEqual([0, 1])
  gates[1]?.resolve()
  await all[1]
  expect(begun).toEqual([0, 1, 2])
  for (const gate of gates) gate.resolve()
  await Promise.all(all)
  expect(begun).toEqual([0, 1, 2, 3])
})

test('an action that fails gives its permit back', async () => {
  const semaphore = new Semaphore(1)
  const failed = semaphore.run(() => Promise.reject(new Error('no')))
  const next = semaphore.run(async () => 'next')
  await expect(failed).rejects.toThrow('no')
  expect(await next).toBe('next')
  expect(await semaphore.run(async () => 'last')).toBe('last')
})

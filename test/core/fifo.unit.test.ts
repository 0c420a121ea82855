/** The queue beside a plain array. */

import { expect, test } from 'vitest'
import { Fifo } from '../../src/core/fifo.ts'
import fc from '../properties.ts'

test('does what an array does, for any sequence of calls', () => {
  const call = fc.oneof(
    { weight: 5, arbitrary: fc.integer().map((value) => ({ push: value })) },
    { weight: 4, arbitrary: fc.constant('shift' as const) },
    { weight: 1, arbitrary: fc.constant('clear' as const) },
  )
  fc.assert(
    fc.property(fc.array(call, { maxLength: 600, size: 'max' }), (calls) => {
      const queue = new Fifo<number>()
      const model: number[] = []
      for (const one of calls) {
        if (one === 'clear') {
          queue.clear()
          model.length = 0
        } else if (one === 'shift') expect(queue.shift()).toBe(model.shift())
        else {
          queue.push(one.push)
          model.push(one.push)
        }
        expect(queue.size).toBe(model.length)
        expect(queue.peek()).toBe(model[0])
      }
      expect([...queue]).toEqual(model)
    }),
    { numRuns: 200 },
  )
})

test('keeps entries that are undefined', () => {
  const queue = new Fifo<undefined>()
  queue.push(undefined)
  queue.push(undefined)
  expect(queue.size).toBe(2)
  queue.shift()
  expect(queue.size).toBe(1)
})

import { expect, test } from 'vitest'
import { OutputTail } from '../../src/core/output-tail.ts'
import fc from '../properties.ts'

test('the text is the last characters of all that was appended, however it was cut into chunks', () => {
  const chunks = fc.array(fc.string({ maxLength: 4_000, unit: 'grapheme-ascii' }), {
    maxLength: 30,
  })
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 6_000 }), chunks, (limit, appended) => {
      const tail = new OutputTail(limit)
      for (const chunk of appended) tail.append(chunk)
      expect(tail.text()).toBe(appended.join('').slice(-limit))
    }),
    { numRuns: 50 },
  )
})

test('a hundred thousand small chunks, then one large chunk', () => {
  const tail = new OutputTail(65_536)
  for (let i = 0; i < 100_000; i++) tail.append(`${i}\n`)
  expect(tail.lastLines(2)).toBe('99998\n99999')
  expect(tail.text()).toHaveLength(65_536)
  tail.append('x'.repeat(1_000_000))
  expect(tail.text()).toBe('x'.repeat(65_536))
})

test('a follower gets each chunk in full until it unsubscribes', () => {
  const tail = new OutputTail(2)
  const chunks: string[] = []
  tail.append('before')
  const unfollow = tail.follow((chunk) => chunks.push(chunk))
  tail.append('first')
  unfollow()
  tail.append('after')
  expect(chunks).toEqual(['first'])
  expect(tail.text()).toBe('er')
})

import { expect, onTestFinished, test } from 'vitest'
import { createWithoutStack, ManyhostError } from '../../src/core/errors.ts'

const make = (): ManyhostError => new ManyhostError('MANYHOST_ABORTED', 'given up')

test('an error without a stack says what it is, and those that come later have theirs', () => {
  const { stackTraceLimit } = Error
  expect(make().stack).toContain('errors.unit.test')
  const error = createWithoutStack(make)
  expect([error.message, error.stack?.includes('\n')]).toEqual(['given up', false])
  expect(() =>
    createWithoutStack(() => {
      throw error
    }),
  ).toThrow(error)
  expect(Error.stackTraceLimit).toBe(stackTraceLimit)
  expect(make().stack).toContain('errors.unit.test')
})

test('where the limit of stacks cannot be changed, an error has its stack', () => {
  Object.defineProperty(Error, 'stackTraceLimit', { writable: false })
  onTestFinished(() => {
    Object.defineProperty(Error, 'stackTraceLimit', { writable: true })
  })
  expect(createWithoutStack(make).stack).toContain('errors.unit.test')
})

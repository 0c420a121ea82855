import { runInNewContext } from 'node:vm'
import { expect, test } from 'vitest'
import { describe } from '../../src/core/describe.ts'

class Engine {}

const values: [string, unknown][] = [
  ['"text"', 'text'],
  ['2.5', 2.5],
  ['NaN', Number.NaN],
  ['7n', 7n],
  ['true', true],
  ['undefined', undefined],
  ['null', null],
  ['Symbol(x)', Symbol('x')],
  ['a function', () => 1],
  ['a function', Engine],
  ['an Engine', new Engine()],
  ['[3]', [3]],
  ['a Date', new Date(0)],
  ['a Promise', Promise.resolve()],
  ['{"size":3}', { size: 3 }],
  ['{}', Object.create(null)],
  ['{}', runInNewContext('({})')],
  ['an object', { own: 1n }],
]

test.each(values)('%s', (text, value) => {
  expect(describe(value)).toBe(text)
})

test.each(['x'.repeat(1e6), 10n ** 5_000n, { long: 'x'.repeat(1e6) }])(
  'a long value is cut, and says so',
  (value) => {
    expect(describe(value)).toMatch(/^.{200}\.\.\.$/)
  },
)

test('code of the value that throws is no failure', () => {
  const fail = (): never => {
    throw new Error('own code')
  }
  expect(describe({ toJSON: fail })).toBe('an object')
  expect(describe(new Proxy({}, { get: fail }))).toBe('an object')
})

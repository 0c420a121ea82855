/** Sizes and lengths of time: each form, what is refused, and that the schema's patterns take what the parsers take. */

import { expect, test } from 'vitest'
import {
  BYTES_PATTERN,
  DURATION_PATTERN,
  parseBytes,
  parseDuration,
  requireBytes,
  requireDuration,
} from '../../src/core/units.ts'
import fc from '../properties.ts'

test.each([
  ['0', 0],
  ['4096', 4096],
  ['7B', 7],
  ['2kB', 2_000],
  ['2KB', 2_000],
  ['10MB', 10_000_000],
  ['512mb', 512_000_000],
  ['2GB', 2_000_000_000],
  ['1TB', 1e12],
  ['1KiB', 1_024],
  ['1.5 KiB', 1_536],
  ['1MiB', 2 ** 20],
  ['2GiB', 2 ** 31],
  ['2gib', 2 ** 31],
  ['2Gi', 2 ** 31],
  ['2G', 2 ** 31],
  ['1TiB', 2 ** 40],
  ['1.1kB', 1_100],
] as const)('%s is %i bytes', (text, bytes) => {
  expect(parseBytes(text)).toBe(bytes)
  expect(new RegExp(BYTES_PATTERN).test(text)).toBe(true)
  expect(requireBytes(text)).toBe(bytes)
})

test.each(['', 'GB', '-1', '1 2', '1X', '1GBB', '1e3', '0x10', '9999999PB', '1.', '.5', '1bi'])(
  '%j is no size',
  (text) => {
    expect(parseBytes(text)).toBeUndefined()
    expect(() => requireBytes(text)).toThrow(/a size must be/)
  },
)

test.each([
  ['0s', 0],
  ['30', 30_000],
  ['0.25', 250],
  ['250ms', 250],
  ['30s', 30_000],
  ['16.1', 16_100],
  ['1.5m', 90_000],
  ['2h', 7_200_000],
  ['1d', 86_400_000],
  ['01:30:00', 5_400_000],
  ['1:30:00', 5_400_000],
  ['10:00', 600_000],
  ['0.0001', 1],
] as const)('%s is %i ms', (text, ms) => {
  expect(parseDuration(text)).toBe(ms)
  expect(new RegExp(DURATION_PATTERN).test(text)).toBe(true)
  expect(requireDuration(text)).toBe(ms)
})

test.each(['', 's', '-1s', '1 s', '1w', '1:2', '1:2:3:4', '1e3', 'NaN', 'Infinity'])(
  '%j is no duration',
  (text) => {
    expect(parseDuration(text)).toBeUndefined()
    expect(() => requireDuration(text)).toThrow(/a duration must be/)
  },
)

test.each([-1, Number.NaN])('the number %d is no duration', (given) => {
  expect(() => requireDuration(given)).toThrow(/a duration must be/)
})

test('no text throws, and what is read fits the pattern of the schema', () => {
  const text = fc.stringMatching(/^[0-9. :a-zA-Z]{0,12}$/)
  fc.assert(
    fc.property(text, (given) => {
      if (parseBytes(given) !== undefined) expect(given.trim()).toMatch(new RegExp(BYTES_PATTERN))
      if (parseDuration(given) !== undefined)
        expect(given.trim()).toMatch(new RegExp(DURATION_PATTERN))
    }),
    { numRuns: 2_000 },
  )
})

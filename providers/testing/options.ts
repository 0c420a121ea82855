/** Checks of the options of `inProcess` and `faults`. They are nested, and their messages name the whole path. */
import { describe } from '../../src/core/describe.ts'
import { ManyhostError } from '../../src/core/errors.ts'

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function invalid(name: string, wanted: string, got: unknown): never {
  throw new ManyhostError(
    'MANYHOST_INVALID_OPTION',
    `${name} must be ${wanted}, got ${describe(got)}`,
  )
}

/** Refuses a value that is no object, and keys that are not known. */
export function checkKeys(name: string, options: unknown, known: readonly string[]): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    invalid(name, `an object of ${known.join(', ')}`, options)
  }
  for (const key of Object.keys(options)) {
    if (!known.includes(key)) invalid(`an option of ${name}`, `one of ${known.join(', ')}`, key)
  }
}

/** Refuses a value that is no number from `min` to `max`, both included. */
export function checkNumber(
  name: string,
  value: unknown,
  { min = 0, max = Infinity, whole = false },
): void {
  const fits = typeof value === 'number' && value >= min && value <= max
  if (fits && Number.isFinite(value) && (!whole || Number.isInteger(value))) return
  const range = max === Infinity ? `from ${min}` : `from ${min} to ${max}`
  invalid(name, `a ${whole ? 'whole ' : ''}number ${range}`, value)
}

export function checkOneOf(name: string, value: unknown, allowed: readonly string[]): void {
  if (!allowed.includes(value as string)) invalid(name, `one of ${allowed.join(', ')}`, value)
}

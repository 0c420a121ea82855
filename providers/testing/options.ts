/** Checks of the options of this room. */
import { ManyhostError } from '../../src/core/errors.ts'

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function invalid(name: string, wanted: string, got: unknown): never {
  const shown = typeof got === 'number' ? String(got) : (JSON.stringify(got) ?? String(got))
  throw new ManyhostError('MANYHOST_INVALID_OPTION', `${name} must be ${wanted}, got ${shown}`)
}

/** Refuses what is no object, and keys that are none of `known`. */
export function checkKeys(name: string, options: unknown, known: readonly string[]): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    invalid(name, `an object of ${known.join(', ')}`, options)
  }
  for (const key of Object.keys(options)) {
    if (!known.includes(key)) invalid(`an option of ${name}`, `one of ${known.join(', ')}`, key)
  }
}

/** Refuses what is no number between `min` and `max`, both included. */
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

/** What was got, for an error message. */

/** At most this many characters of a value are shown. */
const MAX_LENGTH = 200

/** A value as text for an error message: strings in quotes, lists and plain objects as JSON, others by kind. Never throws. */
export function describe(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value)
  if (typeof value === 'function') return 'a function'
  if (typeof value === 'object' && value !== null) return describeObject(value)
  return String(value)
}

/** The code of the value may throw: getters, proxies, `toJSON`. */
function describeObject(value: object): string {
  try {
    const name = Array.isArray(value) ? undefined : value.constructor?.name
    if (name && name !== 'Object') return `${/^[AEIOU]/.test(name) ? 'an' : 'a'} ${name}`
    return JSON.stringify(value).slice(0, MAX_LENGTH)
  } catch {
    return 'an object'
  }
}

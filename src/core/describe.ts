/** What was got, for the message of an error. */

/** Characters of a value that are shown. */
const MAX_LENGTH = 200

/** A value as short text: strings in quotes, lists and plain objects as JSON, other objects by their class. Never throws. */
export function describe(value: unknown): string {
  switch (typeof value) {
    case 'string':
      // Cut first: the text of a whole file may be given by mistake.
      return truncate(JSON.stringify(value.slice(0, MAX_LENGTH + 1)))
    case 'function':
      return 'a function'
    case 'bigint':
      return truncate(`${value}n`)
    case 'object':
      return value === null ? 'null' : describeObject(value)
    default:
      return String(value)
  }
}

/** The code of the value may throw: getters, proxies, `toJSON`. */
function describeObject(value: object): string {
  try {
    const name = Array.isArray(value) ? undefined : value.constructor?.name
    if (name && name !== 'Object') return `${/^[AEIOU]/.test(name) ? 'an' : 'a'} ${name}`
    return truncate(JSON.stringify(value))
  } catch {
    return 'an object'
  }
}

function truncate(text: string): string {
  return text.length > MAX_LENGTH ? `${text.slice(0, MAX_LENGTH)}...` : text
}

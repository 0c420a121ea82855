/**
 * Objects whose keys come from outside: names of headers, tags, variables, providers. They have no prototype, so that
 * `constructor` is absent until somebody sets it, and `__proto__` is a key like any other.
 */

/** An empty one, or a copy of these keys. */
export function createDict<V>(from?: Readonly<Record<string, V>>): Record<string, V> {
  return from === undefined ? Object.create(null) : Object.assign(Object.create(null), from)
}

export function dictFromEntries<V>(entries: Iterable<readonly [string, V]>): Record<string, V> {
  const made = createDict<V>()
  for (const [key, value] of entries) made[key] = value
  return made
}

/** Its instances inherit from an object that inherits nothing and is empty. */
const Fields = function Fields() {} as unknown as new () => Record<string, never>
Fields.prototype = Object.create(null)

/**
 * As `dict()`, for the data path: an object whose prototype is null is kept as a hash table by V8, and takes three times
 * as long to fill.
 */
export function createFields<V>(): Record<string, V> {
  return new Fields()
}

/**
 * Objects whose keys come from outside, such as names of headers, tags, variables or providers. They have no prototype, so that
 * `constructor` is absent until it is set, and `__proto__` is a key like any other.
 */

/** An empty object without a prototype, or a copy of `from`. */
export function createDict<V>(from?: Readonly<Record<string, V>>): Record<string, V> {
  return from === undefined ? Object.create(null) : Object.assign(Object.create(null), from)
}

export function dictFromEntries<V>(entries: Iterable<readonly [string, V]>): Record<string, V> {
  const made = createDict<V>()
  for (const [key, value] of entries) made[key] = value
  return made
}

/** A class whose instances inherit from an empty object that has no prototype itself. */
const Fields = function Fields() {} as unknown as new () => Record<string, never>
Fields.prototype = Object.create(null)

/**
 * As `createDict`, for the data path. V8 keeps an object whose prototype is null as a hash table, which takes three times as
 * long to fill.
 */
export function createFields<V>(): Record<string, V> {
  return new Fields()
}

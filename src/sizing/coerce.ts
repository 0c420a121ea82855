/** Reads values of users as numbers. Knows nothing about clusters. */
import { types } from 'node:util'
import { describe } from '../core/describe.ts'
import { ManyhostError } from '../core/errors.ts'

export type ReadableNumber = number | bigint | Promise<number | bigint>

/** An object that is read as a number: by `Symbol.toPrimitive` with the hint `number`, else by `valueOf`. */
export type Coercible =
  | { valueOf(): ReadableNumber }
  | { [Symbol.toPrimitive](hint: 'number'): unknown }

/** Reads an object as a number, once. Errors of the object's own code pass through. */
export function coerceToNumber(value: Coercible): number | Promise<number> {
  const convert: unknown = Reflect.get(value, Symbol.toPrimitive)
  const read: unknown =
    typeof convert === 'function' ? convert.call(value, 'number') : value.valueOf()
  return isThenable(read) ? Promise.resolve(read).then(toFiniteNumber) : toFiniteNumber(read)
}

export function isCoercible(value: unknown): value is Coercible {
  if (typeof value !== 'object' || value === null || isThenable(value)) return false
  // These have a `valueOf`, but none of them is meant as a size.
  if (types.isDate(value) || types.isStringObject(value) || types.isBooleanObject(value))
    return false
  if (typeof Reflect.get(value, Symbol.toPrimitive) === 'function') return true
  if (typeof Reflect.get(value, 'valueOf') !== 'function') return false
  // Every object inherits a valueOf that answers the object itself. It is the one at the root of the chain; comparing
  // with our own Object.prototype would miss the objects of another realm (node:vm, test runners).
  let holder: object | null = value
  while (holder && !Object.hasOwn(holder, 'valueOf')) holder = Object.getPrototypeOf(holder)
  return holder === null || holder === value || Object.getPrototypeOf(holder) !== null
}

/** Whether a function is a class. An old-style class is a function whose prototype has more than `constructor`. */
export function isClass(given: object): boolean {
  const prototype: unknown = Object.getOwnPropertyDescriptor(given, 'prototype')?.value
  if (typeof prototype !== 'object' || prototype === null) return false
  if (/^class\b/.test(Function.prototype.toString.call(given))) return true
  const above = Object.getPrototypeOf(prototype)
  const inherits = above !== null && Object.getPrototypeOf(above) !== null
  return inherits || Reflect.ownKeys(prototype).some((key) => key !== 'constructor')
}

export function isThenable(value: unknown): value is PromiseLike<unknown> {
  if (typeof value !== 'object' || value === null) return false
  return typeof Reflect.get(value, 'then') === 'function'
}

/** @throws ManyhostError MANYHOST_SIZE_FAILED for anything but a finite number or a bigint that fits in one */
export function toFiniteNumber(value: unknown): number {
  const size = typeof value === 'bigint' ? Number(value) : value
  if (typeof size === 'number' && Number.isFinite(size)) return size
  throw new ManyhostError(
    'MANYHOST_SIZE_FAILED',
    `a size must be a finite number, got ${describe(value)}`,
  )
}
